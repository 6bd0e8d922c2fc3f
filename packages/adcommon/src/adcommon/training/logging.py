"""Log lines: to the terminal above any progress bar, and to the run's log.txt."""

import logging
import sys
import warnings
from collections import deque
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from adcommon.io.files import output_errors

_LINE = "%(asctime)s %(message)s"


def start_logging(folder: Path | None) -> None:
    """Log to stderr and, if a folder is given, append to its log.txt; replaces what an earlier call set up.

    What was logged since an earlier call without a folder, such as what was found in the data, is written to
    log.txt first. Python's warnings are logged too.
    """
    root = logging.getLogger()
    before = [handler for handler in root.handlers if handler.name == __name__]
    early = next((handler for handler in before if isinstance(handler, _Early)), _Early())
    handlers: list[logging.Handler] = [_Terminal()]
    handlers[0].setFormatter(_Tidy(_LINE, datefmt="%H:%M:%S"))
    if folder is None:
        handlers.append(early)
    else:
        with output_errors(folder / "log.txt"):
            folder.mkdir(parents=True, exist_ok=True)
            file = logging.FileHandler(folder / "log.txt", encoding="utf-8")
        file.setFormatter(_Tidy(_LINE, datefmt="%Y-%m-%d %H:%M:%S"))
        for record in early.records:
            file.handle(record)
        handlers.append(file)

    for old in before:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.name = __name__
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    warnings.showwarning = _log_warning


class _Early(logging.Handler):
    """Keeps the last lines until there is a file for them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: deque[logging.LogRecord] = deque(maxlen=1000)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class _Tidy(logging.Formatter):
    """Time and message; the level only of a warning or worse."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        line = f"{record.asctime} {level}{record.message}"
        return line.encode(errors="backslashreplace").decode()  # names of files need not be text


class _Terminal(logging.Handler):
    """Writes to stderr above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except OSError:  # a full disk, where stderr is a file: what is logged goes on
            self.handleError(record)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    logging.getLogger("py.warnings").warning("%s", message)
