"""The folder of a prediction or an evaluation: no work is lost in it, and nothing of two runs is mixed."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from adcommon.errors import OutputExists
from adcommon.io.files import LOCK, MARKER, mark, output_errors, refuse_foreign, remove, remove_leftovers
from adcommon.io.lock import locked
from adcommon.io.text import printable


def refuse_held(folder: Path, written: Collection[str], *, wanted: bool, remedy: str) -> None:
    """Refuse a folder that a command must not write to; nothing is touched.

    Args:
        written: names of what the command itself writes there.
        wanted: it may hold what an earlier such command wrote.
        remedy: what to do if that is not wanted.

    Raises:
        OutputExists: it holds that, or what another command or somebody else wrote.
    """
    refuse_foreign(folder)
    with output_errors(folder):
        held = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    held = [name for name in held if not name.startswith(".")]
    if other := [name for name in held if name not in written]:
        raise OutputExists(f"{folder} holds '{printable(other[0])}', of another run; choose another --out")
    if held and not wanted:
        raise OutputExists(f"{folder} is not empty. {remedy}, or choose another folder with --out")


@contextmanager
def reserved(folder: Path, written: Collection[str], *, force: bool) -> Iterator[None]:
    """Lock a folder that is new, or with `force` one that may be cleared; what stays empty is removed again.

    Raises:
        OutputExists: it is in use, or not to be written to; see `refuse_held`.
    """
    with locked(folder):
        refuse_held(folder, written, wanted=force, remedy="Overwrite it with --force")
        try:
            yield
        finally:
            if {path.name for path in folder.iterdir() if not path.name.startswith(LOCK)} == {MARKER}:
                (folder / MARKER).unlink()


def clear(folder: Path, written: Collection[str]) -> None:
    """Make the folder ours, and delete what an earlier such command wrote there; it is locked."""
    mark(folder)
    with output_errors(folder):
        remove_leftovers(folder)
        for name in written:
            remove(folder / name)
