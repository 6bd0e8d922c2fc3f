"""Log lines: to the terminal above any progress bar, and to the run's log.txt."""

import logging
import sys
import warnings
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from adcommon.io.files import output_errors

_LINE = "%(asctime)s %(message)s"


def start_logging(folder: Path | None) -> None:
    """Log to stderr and, if a folder is given, append to its log.txt; replaces what an earlier call set up.

    Python's warnings are logged too.
    """
    handlers: list[logging.Handler] = [_Terminal()]
    handlers[0].setFormatter(_Tidy(_LINE, datefmt="%H:%M:%S"))
    if folder is not None:
        with output_errors(folder / "log.txt"):
            folder.mkdir(parents=True, exist_ok=True)
            handlers.append(logging.FileHandler(folder / "log.txt", encoding="utf-8"))
        handlers[1].setFormatter(_Tidy(_LINE, datefmt="%Y-%m-%d %H:%M:%S"))

    root = logging.getLogger()
    for old in [handler for handler in root.handlers if handler.name == __name__]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.name = __name__
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    warnings.showwarning = _log_warning


class _Tidy(logging.Formatter):
    """Time and message; the level only of a warning or worse."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return f"{record.asctime} {level}{record.message}"


class _Terminal(logging.Handler):
    """Writes to stderr above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    logging.getLogger("py.warnings").warning("%s", message)
