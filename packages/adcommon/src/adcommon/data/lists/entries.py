"""What a list of images says, and from there to records: files found, masks joined, categories and splits.

A list keeps its own order. Its paths are taken from the folders it is read with, the first that has the file;
absolute paths are taken as they are; a path that climbs out of those folders with `..` is refused.
"""

import hashlib
import logging
import posixpath
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adcommon.data.messages import lines
from adcommon.data.sources.layouts import in_order
from adcommon.data.sources.splits import split_normals
from adcommon.errors import BadValue, DatasetNotFound, EmptySplit, MaskMissing
from adcommon.io.cache import cache_folder, made_once
from adcommon.io.images import list_images
from adcommon.types.names import check_category, check_distinct, check_name
from adcommon.types.records import Record, Split

logger = logging.getLogger(__name__)

ListedSplit = Literal["train", "test", ""]
"""Where an entry belongs; "": a quarter of the normal images tests, and every anomalous one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One image as a list names it; no file has been looked at."""

    where: str
    """For messages: "train.json, line 3"."""
    image: str
    category: str
    label: int
    defect: str = "good"
    masks: tuple[str, ...] = ()
    """Several belong together: their union is the mask."""
    split: ListedSplit = ""

    def __post_init__(self) -> None:
        """Refuse names that cannot be those of folders, with their place in the list."""
        check_category(self.category, self.where)
        check_name(self.defect, "defect", self.where)
        if self.label and self.defect == "good":
            raise BadValue(f"{self.where}: an anomalous image whose defect is 'good'; name the defect")


def to_records(entries: Sequence[Entry], folders: Sequence[Path]) -> list[Record]:
    """The records of a list, in its order; `folders` are where its paths begin, tried in their order.

    Raises:
        DatasetNotFound: images are missing; names the first of them with their lines, and counts all.
        MaskMissing: the same for masks.
        BadValue: a path leaves the folders.
    """
    named = [(entry.where, name) for entry in entries for name in (entry.image, *entry.masks)]
    found = {name: find_listed(name, folders, where) for where, name in named}
    lost = [entry for entry in entries if not _exists(found[entry.image], Path.is_file)]
    images = [f"{entry.where}: {entry.image}" for entry in lost]
    masks = [f"{entry.where}: {name}" for entry in entries for name in entry.masks if found[name] is None]
    looked = (
        f"\n  Looked in: {', '.join(str(folder.absolute()) for folder in folders)}\n"
        "  If the paths begin elsewhere, make a table that is read from anywhere:\n"
        "  uv run ad manifest --data LISTS --image-dir FOLDER --format csv --out NEW"
    )
    if images:
        raise DatasetNotFound(f"{len(images)} images that a list names are not there:{lines(images)}{looked}")
    if masks:
        raise MaskMissing(f"{len(masks)} masks that a list names are not there:{lines(masks)}{looked}")
    records = []
    for entry in entries:
        image = found[entry.image] or Path(entry.image)
        mask = _joined([path for name in entry.masks if (path := found[name]) is not None])
        records.append(Record(image, entry.category, entry.label, entry.defect, mask))
    return records


def to_splits(entries: Sequence[Entry], folders: Sequence[Path], *, seed: int = 0) -> dict[str, Split]:
    """The records of lists by category, in the order in which the categories first occur; see `to_records`.

    Args:
        seed: draws the normal images that test where the list has no split.

    Raises:
        BadValue: also an anomalous image among those to train with.
        EmptySplit: the list names no image.
    """
    if not entries:
        raise EmptySplit("the list names no images")
    for entry in entries:
        if entry.split == "train" and entry.label == 1:
            raise BadValue(f"{entry.where}: an anomalous image cannot train; give it to the test")
    _refuse_twins(entries)
    categories: dict[str, dict[str, list[Record]]] = {}
    for entry, record in zip(entries, to_records(entries, folders), strict=True):
        parts = categories.setdefault(entry.category, {"train": [], "test": [], "": []})
        parts["test" if entry.label == 1 else entry.split].append(record)
    splits = {}
    for category, parts in categories.items():
        drawn = split_normals(in_order(parts[""]), seed)
        splits[category] = Split([*parts["train"], *drawn.train], [*parts["test"], *drawn.test])
    return splits


def find_listed(name: str, folders: Iterable[Path], where: str) -> Path | None:
    """The file or folder that a list names, in the first of `folders` that has it; None if none has.

    Args:
        name: an absolute path, or one below the folders.
        where: the place in the list, for the message.

    Raises:
        BadValue: a path that leaves the folders.
    """
    if not name.strip() or "\0" in name:
        raise BadValue(f"{where}: {name!r} is no path")
    if Path(name).is_absolute():
        return Path(name) if _exists(Path(name)) else None
    if posixpath.normpath(name).split("/")[0] == "..":
        raise BadValue(
            f"{where}: the path {name} leaves the folder it is taken from\n"
            "  Pass a folder further up, or write absolute paths into the list."
        )
    return next((folder / name for folder in folders if _exists(folder / name)), None)


def listed_path(path: Path, root: Path | None) -> str:
    """How a list names a file: below `root` if it lies there, else absolute; without `root` as it is."""
    if root is None:
        return path.as_posix()
    path, root = path.absolute(), root.absolute()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def listed_masks(mask: Path | None, root: Path | None) -> tuple[str, ...]:
    """The files of a record's mask, one for each part."""
    if mask is None:
        return ()
    parts = list_images(mask) if mask.is_dir() else [mask]
    return tuple(listed_path(part, root) for part in parts)


def _refuse_twins(entries: Sequence[Entry]) -> None:
    """Names that are one folder on some systems, and images that would train and test."""
    first: dict[tuple[str, str], Entry] = {}
    defects: dict[str, set[str]] = {}
    repeated = 0
    for entry in entries:
        defects.setdefault(entry.category, set()).add(entry.defect)
        other = first.setdefault((entry.category, posixpath.normpath(entry.image)), entry)
        if other is entry:
            continue
        parts = {"test" if one.label else one.split for one in (entry, other)}
        if other.label != entry.label or parts not in ({"train"}, {"test"}):
            raise BadValue(
                f"{entry.where}: {entry.image} stands in {other.where} too, and would train and test, or be "
                "normal and anomalous; keep one of the two lines"
            )
        repeated += 1
    if repeated:
        logger.warning("%s: %d images are listed more than once", entries[0].where, repeated)
    check_distinct(defects, "categories")
    for names in defects.values():
        check_distinct(sorted(names), "defects")


def _exists(path: Path | None, kind: Callable[[Path], bool] = Path.exists) -> bool:
    """False also for what cannot be a path here: a name that is too long, a folder that cannot be entered."""
    try:
        return path is not None and kind(path)
    except OSError:
        return False


def _joined(masks: list[Path]) -> Path | None:
    """One path for all masks of an image: the folder that holds exactly them, else a copy in the cache."""
    if len(masks) < 2:
        return masks[0] if masks else None
    parents = {mask.parent for mask in masks}
    if len(parents) == 1 and sorted(masks) == sorted(list_images(masks[0].parent)):
        return masks[0].parent
    digest = hashlib.blake2b(digest_size=16)
    for mask in masks:
        digest.update(hashlib.sha256(mask.read_bytes()).digest() + mask.suffix.encode())

    def copy(folder: Path) -> None:
        for number, mask in enumerate(masks):
            shutil.copyfile(mask, folder / f"{number:03d}{mask.suffix}")

    return made_once(cache_folder() / "mask-parts" / digest.hexdigest(), copy, "masks in several parts")
