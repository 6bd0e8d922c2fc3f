"""The user's own images: any folder that says, by its folders or by a list, which images are normal.

One category is a folder that holds one of

    train/good, test/good, test/<defect>, ground_truth/<defect>   as MVTec AD; without test, normals are split
    good, <defect>, ground_truth/<defect>                         normals are split
    images                                                        all normal, split
    manifest.csv    or another list of `adcommon.data.lists.manifest`; the file itself may be given too

and a folder of such folders is a dataset of several categories. Masks are optional. `good` may be called
`ok` or `normal`. A split leaves a quarter of the normal images, drawn with a seed, for the test. A folder
that has `test` but no `train` can only be evaluated.
"""

import logging
from dataclasses import replace
from pathlib import Path

from adcommon.data.lists.entries import to_splits
from adcommon.data.lists.manifest import entries_of, list_folders
from adcommon.data.sources.layouts import (
    Scan,
    in_order,
    is_normal,
    normal_records,
    scan_category,
    scan_defects,
    subfolders,
)
from adcommon.data.sources.splits import split_normals
from adcommon.errors import DatasetNotFound
from adcommon.io.images import list_images
from adcommon.types.names import check_distinct
from adcommon.types.records import Record, Split

logger = logging.getLogger(__name__)

_RESERVED = ("train", "test", "validation", "ground_truth")


def folder_categories(root: Path) -> dict[str, Path]:
    """The categories found in a folder, by name, each with the folder that holds it.

    Raises:
        DatasetNotFound: there are no images, or no such folder.
    """
    if not root.exists():
        raise DatasetNotFound(f"no such folder: {root}\n  Expected a folder of images, or a list of them.")
    entries = entries_of(root)
    if entries is not None:
        check_distinct((entry.category for entry in entries), "categories")
        return dict.fromkeys((entry.category for entry in entries), root)
    if _is_category(root):
        return {root.resolve().name: root}
    found = {folder.name: folder for folder in subfolders(root) if _is_category(folder)}
    if not found:
        raise DatasetNotFound(
            f"no images found in {root}\n"
            "  Expected images, or good/ with one folder per defect, or train/good and test/<defect>,\n"
            "  or one folder of such a form per category."
        )
    return found


def scan_folder(folder: Path, category: str, *, seed: int) -> Scan:
    """Scan one category of the user's own images; see the module for the forms it may have."""
    entries = entries_of(folder)
    if entries is not None:
        own = [entry for entry in entries if entry.category == category]
        split = to_splits(own, list_folders(folder), seed=seed)[category]
        return Scan(split, split.pixel_truth)
    if (folder / "train").is_dir() or (folder / "test").is_dir():
        scan = scan_category(folder, category)
        loose = [Record(image, category, 0) for image in list_images(folder / "train")]
        train = in_order([*scan.split.train, *loose])
        if (folder / "test").is_dir():
            return replace(scan, split=Split(train, scan.split.test))
        return Scan(_split_normals(train, [], seed, folder), wrong=scan.wrong)
    defects = {
        source.name: source
        for source in subfolders(folder)
        if not is_normal(source) and source.name not in _RESERVED and list_images(source)
    }
    normal = normal_records(folder, category)
    if not any(is_normal(source) for source in subfolders(folder)):
        if defects:
            names = ", ".join(defects)
            logger.warning("folder %s holds images, so its folders are passed over: %s", folder, names)
        normal, defects = [Record(image, category, 0) for image in list_images(folder)], {}
    scan = scan_defects(defects, folder / "ground_truth", category)
    return replace(scan, split=_split_normals(normal, scan.split.test, seed, folder))


def _is_category(folder: Path) -> bool:
    sources = subfolders(folder)
    divided = any(is_normal(source) or source.name in ("train", "test") for source in sources)
    return divided or bool(list_images(folder))


def _split_normals(normal: list[Record], anomalous: list[Record], seed: int, root: Path) -> Split:
    """Keep a quarter of the normal images for the test, drawn from the sorted list."""
    split = split_normals(in_order(normal), seed)
    train, test = len(split.train), len(split.test)
    logger.info("folder %s normal %d train %d test %d seed %d", root, len(normal), train, test, seed)
    return Split(split.train, in_order([*split.test, *anomalous]))
