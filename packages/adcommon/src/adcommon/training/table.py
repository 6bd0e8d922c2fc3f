"""A table of a run that grows step by step, and can be set back to one. No torch here."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import SupportsFloat

from adcommon.errors import BadValue
from adcommon.io.files import atomic_write, csv_text, output_errors
from adcommon.io.text import csv_value

AFRESH = "It belongs to a run: start that afresh with --force."


class StepTable:
    """A CSV file whose first column is the step; numbers in it read back exactly."""

    def __init__(self, path: Path) -> None:
        """Go on with the file if it is there.

        Raises:
            BadValue: no run wrote it.
        """
        self.path = path
        self._columns = _read(path)[0]

    def append(self, step: int, values: Mapping[str, SupportsFloat | None]) -> None:
        """Write a row; a value seen for the first time becomes a new last column, None an empty cell."""
        if new := [name for name in ("step", *values) if name not in self._columns]:
            self._columns += new
            rows = [row + [""] * len(new) for row in _read(self.path)[1]]
            atomic_write(self.path, csv_text([self._columns, *rows]))
        cells = {"step": str(step)} | {name: _cell(value) for name, value in values.items()}
        with output_errors(self.path), self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(csv_text([[cells.get(name, "") for name in self._columns]]))

    def rewind(self, step: int) -> None:
        """Drop the rows of later steps."""
        if self._columns:
            rows = [row for row in _read(self.path)[1] if int(row[0]) <= step]
            atomic_write(self.path, csv_text([self._columns, *rows]))

    def last_step(self) -> int:
        """The latest of its steps; 0 if it has none."""
        return max((int(row[0]) for row in _read(self.path)[1]), default=0)


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """Column names and complete rows; a last line that a killed process left without its end is dropped."""
    if not path.exists():
        return [], []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        columns, *rows = list(csv.reader(line for line in lines if line.endswith("\n"))) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadValue(f"cannot read {path}: {error}\n  {AFRESH}") from None
    for number, row in enumerate(rows, start=2):
        if columns[0] != "step" or len(row) != len(columns) or not re.fullmatch("[0-9]{1,12}", row[0]):
            raise BadValue(
                f"{path}, line {number}: expected {len(columns)} values, the first a step\n  {AFRESH}"
            )
    return list(map(csv_value, columns)), rows


def _cell(value: SupportsFloat | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else repr(float(value))
