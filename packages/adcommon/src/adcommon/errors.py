"""Mistakes a user can mend: commands print the message and end with exit code 2, without a traceback."""

import signal
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec


class UserError(Exception):
    """Base of every error whose message tells the user what to do next."""


class BadValue(UserError, ValueError):
    """A value that cannot be used: which one, what was expected."""


class UnknownName(UserError, ValueError):
    """A name (dataset, category, method, backbone) that does not exist."""


class DatasetNotFound(UserError, FileNotFoundError):
    """The dataset's folder is not there, or is one level too high or too low."""


class NotPrepared(UserError, ValueError):
    """The raw download was given where the prepared tree is needed."""


class EmptySplit(UserError, ValueError):
    """A split without images."""


class UnreadableImage(UserError, ValueError):
    """A file that cannot be decoded as an image."""


class UnreadableArchive(UserError, ValueError):
    """An archive that cannot be unpacked: damaged, not an archive, or not to be trusted."""


class MaskMissing(UserError, FileNotFoundError):
    """An anomalous image whose mask should exist and does not."""


class MaskSizeMismatch(UserError, ValueError):
    """A mask whose size differs from its image's."""


class Leak(UserError, ValueError):
    """The same image where it must not be twice: in training and test, among references and queries."""


class ChecksumMismatch(UserError, ValueError):
    """A file whose SHA-256 is not the expected one."""


class OutputExists(UserError, FileExistsError):
    """The output folder already holds something that would be lost."""


class OutputFailed(UserError, OSError):
    """Writing failed: a full disk or a folder that cannot be written."""


class WeightsNotFound(UserError, FileNotFoundError):
    """Pretrained weights that are not on this machine and cannot be fetched."""


class WrongCheckpoint(UserError, ValueError):
    """A file or folder that is not the checkpoint it was taken for."""


class Diverged(UserError, ArithmeticError):
    """A training whose losses or weights are no numbers any more."""


class ExportFailed(UserError, ValueError):
    """A model that cannot be written in another form, or would then compute something else."""


class MissingPackage(UserError, ImportError):
    """A package that comes with an extra of this one is not installed."""


class Stopped(BaseException):
    """A run that was asked to stop and has saved its state; commands end with 128 and the signal's number.

    As with a KeyboardInterrupt, which it stands for, no `except Exception` on the way takes it for its own.
    """

    def __init__(self, message: str, number: int = 0) -> None:
        """Say what to do next.

        Args:
            number: of the signal that asked; 0: another process got it, and SIGTERM is taken for it.
        """
        super().__init__(message)
        self.number = number or signal.SIGTERM


def unknown_name(what: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a mistyped name, with the nearest known one.

    >>> str(unknown_name("category of 'mvtec'", "Botle", ["bottle", "cable"]))
    "unknown category of 'mvtec': 'Botle'; did you mean 'bottle'? Known: bottle, cable"
    """
    known = list(known)
    by_folded = {entry.casefold(): entry for entry in known}
    close = get_close_matches(name.casefold(), by_folded, n=1)
    hint = f"; did you mean '{by_folded[close[0]]}'?" if close else "."
    return UnknownName(f"unknown {what}: '{name}'{hint} Known: {', '.join(known) or 'none'}")


def require(extra: str, *packages: str) -> None:
    """Refuse to go on without packages of an extra; nothing is imported.

    Raises:
        MissingPackage: names the missing ones and says how to install them.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingPackage(
            f"this needs {', '.join(missing)}, not installed here: uv pip install 'adcommon[{extra}]'"
        )
