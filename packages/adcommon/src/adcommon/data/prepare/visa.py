"""VisA from its download to the layout of MVTec AD, under one of its three official splits.

    <source>                                         <target>/1cls
      candle/Data/Images/Normal/0000.JPG               candle/train/good/0000.JPG
      candle/Data/Images/Anomaly/000.JPG               candle/test/good/0011.JPG
      candle/Data/Masks/Anomaly/000.png                candle/test/bad/000.JPG
      split_csv/1cls.csv                               candle/ground_truth/bad/000.png

The two-class splits have `train/bad` as well, and `ground_truth/train/bad`, `ground_truth/test/bad`. Masks of
the download hold small numbers and look black; here they are 0 and 255. Source: Zou et al., ECCV 2022 (arXiv
2207.14315); the 1cls layout is the one of ReContrast (arXiv 2306.02602).
"""

import csv
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from adcommon.data.messages import shorten
from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import (
    Categories,
    Listing,
    find_level,
    refuse_missing,
    refuse_unknown,
    write_mask,
)
from adcommon.errors import BadValue, DatasetNotFound, NotPrepared

logger = logging.getLogger(__name__)

SplitType = Literal["1cls", "2cls_fewshot", "2cls_highshot"]
Names = Literal["bad", "defect", "ko"]

OFFICIAL_SPLITS = {
    "1cls": "04768fb47e97e3cafdd45ece954f98ebf8315ff3faac00dc838540933bd68503",
    "2cls_fewshot": "a1d7d73b0c40536efef1958582b815253a6f443d3f5c9b3695c3392f3c79f483",
    "2cls_highshot": "0018557d5b532db682edebe69beb2ee1026331a8cd398bb9b5630bc0467aa0e1",
}
"""SHA-256 of the split files in the official archive."""

_COLUMNS = ["object", "split", "label", "image", "mask"]


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a split."""

    category: str
    split: str
    """"train" or "test"."""
    anomalous: bool
    image: str
    """Relative to the download."""
    mask: str
    """The same; empty for a normal image."""


@dataclass(frozen=True, kw_only=True)
class Visa:
    """The official splits, each in a folder of its own below the target."""

    split_type: SplitType = "1cls"
    """The official split."""
    split_file: Path | None = None
    """Its CSV file. [default: the archive's own, else a copy of the split that is built in]"""
    layout: Names = "bad"
    """Name of the folders of anomalous images: `bad` (ReContrast), `defect` (InCTRL), or `ko` with `ok` for
    the normal ones (RealNet)."""
    categories: Categories = ()
    """Only these. [default: all that the split names]"""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has candle, capsules, ..."""
        root = find_level(source, "*/Data/Images", "visa")
        rows, origin = self._rows(root)
        known = sorted({row.category for row in rows})
        refuse_unknown(self.categories, known, "visa")
        rows = [row for row in rows if not self.categories or row.category in self.categories]
        steps = self._steps(rows, root, origin)
        notes = ("masks are binarised: 0 normal, 255 anomalous", f"split: {origin}")
        return Plan("visa", root, target / self.split_type, steps, asdict(self), notes)

    def _rows(self, root: Path) -> tuple[list[Row], str]:
        """The split, and where it is from."""
        path = self.split_file or root / "split_csv" / f"{self.split_type}.csv"
        if path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest != OFFICIAL_SPLITS[self.split_type]:
                logger.warning("%s is not the official split %s: SHA-256 %s", path, self.split_type, digest)
            return read_split(path), f"{path.name} {digest}"
        if self.split_file is not None:
            raise DatasetNotFound(f"no such split file: {path}; the archive ships them in split_csv/")
        message = "dataset visa split %s from the built-in copy, because %s is not there"
        logger.info(message, self.split_type, path)
        return builtin_split(self.split_type), "built in"

    def _steps(self, rows: list[Row], root: Path, origin: str) -> list[Step]:
        good, bad = ("ok", "ko") if self.layout == "ko" else ("good", self.layout)
        listing = Listing(root)
        steps: list[Step] = []
        for row in rows:
            base = f"{row.category}/{row.split}/{bad if row.anomalous else good}"
            if (image := listing.find(row.image)) is not None:
                steps.append(Step(f"{base}/{image.name}", image))
            if not row.anomalous or (self.split_type == "1cls" and row.split == "train"):
                continue
            masks = f"ground_truth/{bad}" if self.split_type == "1cls" else f"ground_truth/{row.split}/{bad}"
            if (mask := listing.find(row.mask)) is not None:
                name = PurePosixPath(row.mask).with_suffix(".png").name
                steps.append(Step(f"{row.category}/{masks}/{name}", mask, write_mask))
        self._report(listing, root, origin, len(rows))
        return steps

    def _report(self, listing: Listing, root: Path, origin: str, total: int) -> None:
        """Say all that is missing at once, and what is spelled otherwise than in the split."""
        if listing.missing and origin == "built in":
            split_file = root / "split_csv" / f"{self.split_type}.csv"
            raise NotPrepared(
                f"no {split_file}, and {len(listing.missing)} files that the "
                f"built-in copy of the split names are missing too: {shorten(listing.missing)}\n"
                "  Expected the unpacked VisA archive, with candle/Data/Images/Normal and split_csv, as\n"
                "  --source; --split-file FILE takes another split."
            )
        partly = "--category NAME prepares single categories of an incomplete download."
        refuse_missing(listing.missing, total, f"Unpack the archive again; {partly}")
        if listing.respelled:
            count, names = len(listing.respelled), shorten(listing.respelled)
            logger.warning("%d files are spelled otherwise than in the split: %s", count, names)


def read_split(path: Path) -> list[Row]:
    """The rows of a split file with the columns object, split, label, image and mask, in any order."""
    rows = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if sorted(reader.fieldnames or ()) != sorted(_COLUMNS):
            raise BadValue(f"{path} has the columns {reader.fieldnames}; expected {', '.join(_COLUMNS)}")
        for row in reader:
            if row["split"] not in ("train", "test") or row["label"] not in ("normal", "anomaly"):
                raise BadValue(
                    f"{path}, line {reader.line_num}: split '{row['split']}', label '{row['label']}'; "
                    "expected train or test, normal or anomaly"
                )
            rows.append(
                Row(row["object"], row["split"], row["label"] == "anomaly", row["image"], row["mask"])
            )
    return rows


def builtin_split(split_type: SplitType) -> list[Row]:
    """The official split from the numbers that are shipped with this package."""
    file = files("adcommon.data.prepare").joinpath("visa_splits.json")
    table = json.loads(file.read_text(encoding="utf-8"))
    return [row for name, numbers in table.items() for row in _builtin_rows(name, numbers, split_type)]


def _builtin_rows(category: str, numbers: dict[str, Any], split_type: SplitType) -> Iterator[Row]:
    if split_type == "1cls":
        train_normal = set(range(numbers["n_normal"])) - set(numbers["1cls_test_normal"])
        train_anomaly: set[int] = set()
    else:
        train_normal = set(numbers[f"{split_type}_train_normal"])
        train_anomaly = set(numbers[f"{split_type}_train_anomaly"])
    folder = f"{category}/Data"
    for number in range(numbers["n_normal"]):
        name = f"{number:0{numbers['normal_digits']}d}"
        split = "train" if number in train_normal else "test"
        yield Row(category, split, False, f"{folder}/Images/Normal/{name}.JPG", "")
    for number in range(numbers["n_anomaly"]):
        split = "train" if number in train_anomaly else "test"
        image = f"{folder}/Images/Anomaly/{number:03d}.JPG"
        yield Row(category, split, True, image, f"{folder}/Masks/Anomaly/{number:03d}.png")
