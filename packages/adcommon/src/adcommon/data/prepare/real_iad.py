"""Real-IAD from one of its resolutions and one of its JSON splits to the layout of MVTec AD.

    <source>                                                    <target>
      realiad_256/usb/OK/S0001/usb_0001_OK_C1_<time>.jpg          usb/train/good/usb_0001_OK_C1_<time>.jpg
      realiad_256/usb/NG/AK/S0001/usb_0001_NG_AK_C1_<time>.jpg    usb/test/AK/usb_0001_NG_AK_C1_<time>.jpg
      realiad_256/usb/NG/AK/S0001/..._mask.png                    usb/ground_truth/AK/..._mask.png
      realiad_jsons/realiad_jsons/usb.json                        (test/good: normal test images)

    usb.json: {"train": [{"anomaly_class": "OK", "image_path": "OK/...", "mask_path": null}, ...],
               "test": [...]}

Every view C1 to C5 of an object is an image of its own, labelled by what it shows; paths begin at the
category's folder. Source: Wang et al., CVPR 2024.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from adcommon.data.catalog import DATASETS
from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import (
    Categories,
    Listing,
    find_level,
    refuse_missing,
    refuse_unknown,
    unnested,
    write_mask,
)
from adcommon.errors import BadValue, DatasetNotFound
from adcommon.io.schema import read_json, shown
from adcommon.types.names import check_name

View = Literal["C1", "C2", "C3", "C4", "C5"]

_SPLITS = {"multi_view": "realiad_jsons", "single_view": "realiad_jsons_sv"}
_VIEW = re.compile(r"_(C[1-5])_")
_NORMAL = "OK"


@dataclass(frozen=True, kw_only=True)
class RealIad:
    """One resolution in one of the owners' splits."""

    resolution: Literal["256", "512", "1024", "raw"] = "256"
    """Which images: of the folder realiad_<resolution>."""
    split: Literal["multi_view", "single_view"] = "multi_view"
    """`multi_view`: realiad_jsons. `single_view`: realiad_jsons_sv."""
    views: Annotated[tuple[View, ...], Parameter(consume_multiple=True, show_default=False)] = ()
    """Only these cameras, by the names of the images. [default: all of the split]"""
    categories: Categories = ()
    """Only these. [default: all that the split has a file of]"""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has realiad_256 and realiad_jsons."""
        known = DATASETS["real_iad"].categories
        refuse_unknown(self.categories, known, "real_iad")
        root = find_level(source, "realiad_jsons*", "real_iad")
        images = root / f"realiad_{self.resolution}"
        if not images.is_dir():
            there = ", ".join(sorted(path.name for path in root.glob("realiad_*"))) or "nothing"
            raise DatasetNotFound(f"no folder {images}; there: {there}\n  --resolution takes another one.")
        folder = self._lists(root)
        wanted = self.categories or [name for name in known if (folder / f"{name}.json").is_file()]
        steps, missing, asked = [], [], 0
        for category in wanted:
            listing = Listing(unnested(images / category))
            rows = [row for row in _rows(folder / f"{category}.json") if self._is_wanted(row)]
            steps += [step for row in rows for step in _steps(category, row, listing)]
            missing += listing.missing
            asked += len(rows)
        refuse_missing(missing, asked, "Unpack the archives again; --category NAME prepares single ones.")
        notes = (f"split: {folder.name}", "every view is an image of its own")
        return Plan("real_iad", root, target, steps, asdict(self), notes)

    def _lists(self, root: Path) -> Path:
        """The folder of the JSON files, which the archive nests in realiad_jsons."""
        name = _SPLITS[self.split]
        for folder in (root / "realiad_jsons" / name, root / name):
            if any(folder.glob("*.json")):
                return folder
        raise DatasetNotFound(f"no JSON files in {root / 'realiad_jsons' / name}, nor in {root / name}")

    def _is_wanted(self, row: "Row") -> bool:
        return not self.views or _view(row) in self.views


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a split."""

    where: str
    """For messages: "usb.json, train, entry 3"."""
    split: str
    """"train" or "test"."""
    anomaly: str
    """Class of the anomaly; "OK": normal."""
    image: str
    """Relative to the category's folder."""
    mask: str
    """The same; empty for a normal image."""


def _rows(path: Path) -> Iterator[Row]:
    table = read_json(path)
    for split in ("train", "test"):
        items = table.get(split) if isinstance(table, Mapping) else None
        if not isinstance(items, list):
            raise BadValue(f"{path}: no array '{split}'; expected a JSON file of Real-IAD's realiad_jsons")
        for number, item in enumerate(items, start=1):
            where = f"{path}, {split}, entry {number}"
            anomaly, image = (_text(item, key, where) for key in ("anomaly_class", "image_path"))
            mask = "" if anomaly == _NORMAL else _text(item, "mask_path", where)
            check_name(anomaly, "anomaly_class", where)
            if split == "train" and mask:
                raise BadValue(f"{where}: an anomalous image ({anomaly}) among the training images")
            yield Row(where, split, anomaly, image, mask)


def _text(item: Any, key: str, where: str) -> str:
    value = item.get(key) if isinstance(item, Mapping) else None
    if not isinstance(value, str) or not value:
        raise BadValue(f"{where}: {key} is {shown(value)}; expected text")
    return value


def _view(row: Row) -> str:
    """The camera in an image's name."""
    found = _VIEW.search(row.image.rpartition("/")[2])
    if found is None:
        raise BadValue(f"{row.where}: no view C1 to C5 in the name {row.image}; leave out --views")
    return found[1]


def _steps(category: str, row: Row, listing: Listing) -> Iterator[Step]:
    defect = "good" if row.anomaly == _NORMAL else row.anomaly
    image = listing.find(row.image)
    if image is not None:
        yield Step(f"{category}/{row.split}/{defect}/{image.name}", image)
    if row.mask and (mask := listing.find(row.mask)) is not None and image is not None:
        yield Step(f"{category}/ground_truth/{defect}/{image.stem}_mask.png", mask, write_mask)
