"""The extension's tables: one CSV per evaluation, with the authors' columns, digits and file names."""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from adcommon.errors import BadValue, DatasetNotFound
from adcommon.io.files import csv_text
from adcommon.io.text import csv_value
from resad.metrics import ResADResult

NAME = "Class Name"
FIELDS = {
    "Image AUC": "image_auroc",
    "Image AP": "image_ap",
    "Image F1": "image_f1",
    "Pixel AUC": "pixel_auroc",
    "Pixel AP": "pixel_ap",
    "Pixel F1": "pixel_f1",
    "Pixel AUPRO": "aupro",
}
"""Columns of the CSV of one training, and where their values come from."""
SHOT_COLUMNS = ("Image AUC", "Image F1", "Pixel AUC", "Pixel F1", "Pixel AUPRO")
"""Columns of the multi-shot CSVs."""
DIGITS = 5

_EPOCH = re.compile(r"_epoch(\d+)_metrics\.csv$")

Table = list[dict[str, float | str]]
"""Rows by column; NaN where a cell is empty."""


def table_text(results: Mapping[str, ResADResult], columns: Sequence[str]) -> str:
    """A CSV with one row per category, in order.

    >>> result = ResADResult(0.912345, 0.9, 0.8, 0.95, 0.5, 0.4, -1.0)
    >>> print(table_text({"candle": result}, ["Image AUC", "Pixel AUPRO"]), end="")
    Class Name,Image AUC,Pixel AUPRO
    candle,0.91234,-1
    """
    rows = (
        [category, *(_cell(getattr(result, FIELDS[column])) for column in columns)]
        for category, result in results.items()
    )
    return csv_text([[NAME, *columns], *rows])


def read_table(path: Path) -> Table:
    """The rows of such a CSV.

    Raises:
        BadValue: no such file, or not a table of this kind.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or NAME not in rows[0]:
            raise ValueError(f"no rows, or no column '{NAME}'")
        return [
            {name: csv_value(value) if name == NAME else float(value or "nan") for name, value in row.items()}
            for row in rows
        ]
    except FileNotFoundError:
        raise BadValue(
            f"no table at {path}; resad-multishot writes them into its checkpoint folder"
        ) from None
    except (ValueError, TypeError, OSError) as error:
        raise BadValue(f"cannot read {path} as a table of metrics: {error}") from error


def column(table: Table, name: str) -> dict[str, float]:
    """One column by category, without the empty cells.

    Raises:
        BadValue: there is no such column.
    """
    if name not in table[0]:
        raise BadValue(f"no column '{name}'; the table has {', '.join(table[0])}")
    values = {str(row[NAME]): float(row[name]) for row in table}
    return {category: value for category, value in values.items() if not math.isnan(value)}


def shot_folder(checkpoints: Path, setting: str, shots: int) -> Path:
    """Where the multi-shot results of one number of shots go."""
    return checkpoints / f"{setting}_{shots}shot"


def epoch_stem(setting: str, epoch: int, shots: int | None = None) -> str:
    """How the files of one evaluation begin; epochs count from 0."""
    return f"{setting}_epoch{epoch}" if shots is None else f"{setting}_{shots}shot_epoch{epoch}"


def latest_table(folder: Path) -> Path:
    """The table of the highest epoch in a folder; by number, so that epoch 10 follows epoch 9.

    Raises:
        DatasetNotFound: there is none.
    """
    found = [(int(match[1]), path) for path in folder.glob("*.csv") if (match := _EPOCH.search(path.name))]
    if not found:
        raise DatasetNotFound(f"no *_epoch<N>_metrics.csv in {folder}; run resad-multishot first")
    return max(found)[1]


def _cell(value: float) -> str:
    if math.isnan(value):
        return ""
    return str(int(value)) if value == -1 else str(round(value, DIGITS))
