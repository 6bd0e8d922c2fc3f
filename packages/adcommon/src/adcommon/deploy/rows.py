"""predictions.csv, a row per image, and run.json, what the rows were made with: so a prediction can go on.

Rows are appended as they come. A killed process leaves whole rows and at most one that is cut short.
"""

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from adcommon.deploy.result import Decision, decide
from adcommon.errors import BadValue, OutputExists
from adcommon.io.files import csv_text, output_errors
from adcommon.io.schema import read_json
from adcommon.io.text import csv_value

TABLE = "predictions.csv"
RUN = "run.json"
COLUMNS = ("path", "score", "p_value", "threshold", "false_alarm_rate", "decision", "unfamiliar", "error")
"""Of predictions.csv."""
_HEADER = csv_text([COLUMNS])


@dataclass(frozen=True, slots=True)
class Row:
    """What predictions.csv says of an image."""

    path: Path
    score: float | None
    """Higher is more anomalous; None: there is an error."""
    p_value: float | None
    """Share of normal images that score at least as high; None: it is not known."""
    threshold: float | None
    false_alarm_rate: float | None
    """That the threshold promises; None: nothing."""
    unfamiliar: str | None
    """Why the image is not of the kind that the model knows; None: it is, or nothing is known of the kind."""
    error: str | None

    @property
    def decision(self) -> Decision:
        """See `decide`."""
        return decide(self.score, self.threshold, self.unfamiliar)

    @property
    def text(self) -> str:
        """The line of the table."""
        return csv_text([[getattr(self, column) for column in COLUMNS]])


Judge = Callable[[Path, float | None, str | None, str | None], Row]
"""The row of an image, from score, why it is unfamiliar, and error: what else it says the model knows."""


def append(table: Path, rows: Sequence[Row]) -> None:
    """Add rows to the table; they are in the file when this returns."""
    with output_errors(table), table.open("a", encoding="utf-8", newline="") as file:
        file.write("".join(row.text for row in rows))


def rewind(table: Path, rows: Sequence[Row]) -> None:
    """Cut the table off behind its first rows, which are these; it is begun if it is not there."""
    content = (_HEADER + "".join(row.text for row in rows)).encode()
    with output_errors(table):
        if rows:
            os.truncate(table, len(content))
        else:
            table.write_bytes(content)


def read_rows(table: Path, paths: Sequence[Path], judge: Judge) -> list[Row]:
    """The whole rows of a table that was begun for these images.

    Raises:
        OutputExists: somebody changed it.
    """
    text = table.read_bytes().decode(errors="replace") if table.exists() else ""
    if not text.startswith(_HEADER):
        if _HEADER.startswith(text):
            return []
        raise _changed(table, "its header")
    cells = _cells(text)[1:]
    rows: list[Row] = []
    end = len(_HEADER)
    for path, own in zip(paths, cells, strict=False):
        row = _row(path, own, judge)
        if row is None or not text.startswith(row.text, end):
            break
        rows.append(row)
        end += len(row.text)
    if len(rows) < len(cells) - 1 or (len(rows) == len(paths) and end < len(text)):
        raise _changed(table, f"row {len(rows) + 1}")
    return rows


def refuse_other(run: Path, wanted: Mapping[str, object]) -> None:
    """Refuse to go on with a prediction that was begun with something else.

    Raises:
        OutputExists: names what differs.
    """
    try:
        stored = read_json(run)
    except BadValue:
        stored = None
    known = stored if isinstance(stored, dict) else {}
    names = [name for name in known | dict(wanted) if known.get(name) != wanted.get(name)]
    if names or known.keys() != wanted.keys():
        raise OutputExists(
            f"cannot go on with the prediction in {run.parent}: it was begun with other values of "
            f"{', '.join(names[:5]) or 'nothing known'}. Give the same, start afresh with --force, or choose "
            "another folder with --out"
        )


def file_digest(path: Path) -> str:
    """Of the contents of a file, or of a model folder's config and tensors."""
    digest = blake2b(digest_size=16)
    files = [path / "config.json", path / "model.safetensors"] if path.is_dir() else [path]
    for each in files:
        with each.open("rb") as file:
            while part := file.read(2**20):
                digest.update(part)
    return digest.hexdigest()


def listing_digest(paths: Sequence[Path]) -> str:
    """Of the names, sizes and times of files, which change when the files do."""
    digest = blake2b(digest_size=16)
    for path in paths:
        about = path.stat()
        digest.update(b"%s\0%d %d\0" % (os.fsencode(path), about.st_size, about.st_mtime_ns))
    return digest.hexdigest()


def _cells(text: str) -> list[list[str]]:
    """The cells of each row; a quote that is not closed ends them."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), strict=True):
            rows.append(row)
    except csv.Error:
        rows.append([])
    return rows


def _row(path: Path, cells: Sequence[str], judge: Judge) -> Row | None:
    if len(cells) != len(COLUMNS):  # cut short
        return None
    known = dict(zip(COLUMNS, cells, strict=True))
    try:
        score = float(known["score"]) if known["score"] else None
    except ValueError:
        return None
    return judge(path, score, *(csv_value(known[name]) or None for name in ("unfamiliar", "error")))


def _changed(table: Path, where: str) -> OutputExists:
    return OutputExists(
        f"{table} is not what a prediction of these images wrote: {where} differs. Start afresh with "
        "--force, or choose another folder with --out"
    )
