"""The log of a watched folder, which is also all that is remembered: what has a line was judged.

JSON lines, CSV or SQLite, by suffix. A line is on the disk when `append` returns; nothing stays of one that a
kill or a full disk cut short.
"""

import csv
import errno
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import msgspec

from adcommon.deploy.result import Decision
from adcommon.errors import BadValue
from adcommon.io.files import csv_text
from adcommon.io.text import csv_value


@dataclass(frozen=True, slots=True)
class Entry:
    """What the log says of an image."""

    time: str
    """When it was judged, UTC."""
    path: str
    """Where it lay, as `printable` writes it."""
    score: float | None
    """Higher is more anomalous; None: there is an error."""
    p_value: float | None
    """Share of normal images that score at least as high; None: it is not known."""
    threshold: float | None
    false_alarm_rate: float | None
    """That the threshold promises; None: nothing."""
    decision: Decision
    unfamiliar: str | None
    """Why the image is not of the kind that the model knows."""
    error: str | None
    """Why it could not be scored."""
    size: int
    """Of the file, bytes."""
    modified_ns: int
    """Its time, nanoseconds since 1970."""
    digest: str | None
    """BLAKE2b of its content, 16 bytes in hexadecimal; None: it could not be read."""

    @property
    def place(self) -> str:
        """Which of the folders it is sorted into: its decision, or "error"."""
        return self.decision if self.error is None else "error"

    @property
    def line(self) -> bytes:
        """As JSON, on a line of its own."""
        return msgspec.json.encode(self) + b"\n"


_COLUMNS = tuple(field.name for field in fields(Entry))
_NUMBERS = ("score", "p_value", "threshold", "false_alarm_rate", "size", "modified_ns")
_HEADER = csv_text([_COLUMNS]).encode()


class Lines:
    """A file of lines."""

    def __init__(
        self, path: Path, header: bytes, text: Callable[[Entry], bytes], parse: Callable[[bytes], Entry]
    ) -> None:
        """Nothing is read; `text` and `parse` are a line's form."""
        self._path, self._header, self._text, self._parse = path, header, text, parse
        self._unwritten: int | None = None
        """Where a line begins that could not be written."""

    def entries(self) -> Iterator[Entry]:
        """What is in it, oldest first; it is begun if it is not there.

        Raises:
            BadValue: it holds something else.
        """
        begin = self._header or b'{"time":"'
        end = 0
        with self._path.open("a+b") as file:
            file.seek(0)
            for number, line in enumerate(file, 1):
                if not line.startswith(begin[: len(line)]) and (number == 1 or not self._header):
                    raise self._foreign(number)
                if not line.endswith(b"\n"):
                    file.truncate(end)
                    return
                if number > 1 or not self._header:
                    try:
                        yield self._parse(line)
                    except (ValueError, csv.Error):
                        raise self._foreign(number) from None
                end += len(line)

    def append(self, entry: Entry) -> None:
        """Add a line.

        Raises:
            OSError: it could not be written; the same call may be made again.
        """
        with self._path.open("ab", buffering=0) as file:
            end = file.tell() if self._unwritten is None else min(file.tell(), self._unwritten)
            file.truncate(end)
            text = self._text(entry) if end else self._header + self._text(entry)
            self._unwritten = end
            if file.write(text) < len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
            self._unwritten = None

    def _foreign(self, number: int) -> BadValue:
        return _foreign(self._path, f"line {number}")


class Database:
    """A file of SQLite with the table `images`."""

    def __init__(self, path: Path) -> None:
        """Nothing is read."""
        self._path = path

    def entries(self) -> Iterator[Entry]:
        """What is in it, oldest first; it is begun if it is not there.

        Raises:
            BadValue: it holds something else.
        """
        try:
            with closing(sqlite3.connect(self._path)) as database:
                database.execute(f"create table if not exists images ({', '.join(_COLUMNS)})")
                for row in database.execute(f"select {', '.join(_COLUMNS)} from images order by rowid"):
                    yield msgspec.convert(dict(zip(_COLUMNS, row, strict=True)), Entry)
        except (sqlite3.DatabaseError, msgspec.ValidationError) as error:
            raise _foreign(self._path, str(error)) from None

    def append(self, entry: Entry) -> None:
        """Add a line.

        Raises:
            OSError: it could not be written; the same call may be made again.
        """
        try:
            with closing(sqlite3.connect(self._path)) as database, database:
                database.execute(
                    f"insert into images values ({', '.join('?' * len(_COLUMNS))})", astuple(entry)
                )
        except sqlite3.OperationalError as error:  # full, locked by a reader, gone
            raise OSError(errno.EIO, str(error)) from error


Log = Lines | Database


def open_log(path: Path) -> Log:
    """The log at a path; nothing is read yet.

    Raises:
        BadValue: its suffix is of no form.
    """
    if path.suffix == ".jsonl":
        return Lines(path, b"", lambda entry: entry.line, _of_json)
    if path.suffix == ".csv":
        return Lines(path, _HEADER, _as_csv, _of_csv)
    if path.suffix == ".sqlite":
        return Database(path)
    raise BadValue(f"--log is {path}; expected a file whose name ends in .jsonl, .csv or .sqlite")


def _foreign(path: Path, where: str) -> BadValue:
    return BadValue(
        f"{path} is no log of `ad watch`: {where}. Move it away, or choose another file with --log"
    )


def _of_json(line: bytes) -> Entry:
    return msgspec.json.decode(line, type=Entry)


def _as_csv(entry: Entry) -> bytes:
    return csv_text([astuple(entry)]).encode()


def _of_csv(line: bytes) -> Entry:
    (cells,) = csv.reader([line.decode()], strict=True)
    known = {name: csv_value(cell) or None for name, cell in zip(_COLUMNS, cells, strict=True)}
    numbers = {name: json.loads(text) for name in _NUMBERS if (text := known[name]) is not None}
    return msgspec.convert(known | numbers, Entry)
