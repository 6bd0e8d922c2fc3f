"""A table of images, one row each, as anybody can write it: image, label, split, category, defect, mask.

Only `image` (or `path`) must be there. Without a label an image is normal; without a split a quarter of the
normal images tests; without a category there is one, named after the folder of the table.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from adcommon.data.lists.entries import Entry, ListedSplit, listed_path
from adcommon.data.lists.json_lists import read_text
from adcommon.errors import BadValue
from adcommon.io.files import csv_text as table
from adcommon.io.text import csv_value
from adcommon.types.names import as_name
from adcommon.types.records import Split

COLUMNS = ("image", "label", "split", "category", "defect", "mask")

_LABELS = {"0": 0, "normal": 0, "good": 0, "": 0, "1": 1, "anomalous": 1}
_SPLITS: dict[str, ListedSplit] = {"train": "train", "test": "test", "": ""}


def parse_csv(path: Path) -> list[Entry]:
    """The entries of a table; its labels may be 0, normal or good, and 1 or anomalous.

    Raises:
        DatasetNotFound: no such table.
        BadValue: names the line and what is wrong with it.
    """
    entries = []
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        if row["label"].lower() not in _LABELS:
            raise BadValue(f"{where}: label is '{row['label']}'; expected 0 or normal, 1 or anomalous")
        label = _LABELS[row["label"].lower()]
        if row["split"] not in _SPLITS:
            raise BadValue(f"{where}: split is '{row['split']}'; expected train, test or nothing")
        if label == 1 and row["split"] == "train":
            raise BadValue(f"{where}: an anomalous image cannot train; give it the split test")
        defect = (row["defect"] or "anomalous") if label else "good"
        category = row["category"] or as_name(path.resolve().parent.name)
        masks = (row["mask"],) if row["mask"] else ()
        entries.append(Entry(where, row["image"], category, label, defect, masks, _SPLITS[row["split"]]))
    return entries


def csv_text(splits: Mapping[str, Split], root: Path | None) -> str:
    """Splits as a table, with paths below `root`; what `parse_csv` reads."""
    rows: list[tuple[object, ...]] = [COLUMNS]
    for split in splits.values():
        for name, records in (("train", split.train), ("test", split.test)):
            for record in records:
                mask = "" if record.mask is None else listed_path(record.mask, root)
                image = listed_path(record.image, root)
                rows.append((image, record.label, name, record.category, record.defect, mask))
    return table(rows)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row, every column filled, with the number of the line that it ends on."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
        if not {"image", "path"} & set(names):
            raise BadValue(f"{path} has no column 'image'; its columns: {', '.join(names)}")
        reader.fieldnames = ["image" if name == "path" else name for name in names]
        for row in reader:
            if None in row:
                raise BadValue(f"{path}, line {reader.line_num}: more fields than the {len(names)} columns")
            values = {name: csv_value((value or "").strip()) for name, value in row.items()}
            yield reader.line_num, dict.fromkeys(COLUMNS, "") | values
    except csv.Error as error:
        raise BadValue(f"{path}, line {reader.line_num}: {error}") from None
