"""The user's own images: any folder that says, by its folders or by a CSV file, which images are normal.

One category is a folder that holds one of

    train/good, test/good, test/<defect>, ground_truth/<defect>   as MVTec AD; without test, normals are split
    good, <defect>, ground_truth/<defect>                         normals are split
    images                                                        all normal, split
    manifest.csv    with the column path, and perhaps label, split, category, mask, defect

and a folder of such folders is a dataset of several categories. Masks are optional. `good` may be called
`ok` or `normal`. A split leaves a quarter of the normal images, drawn with a seed, for the test. A folder
that has `test` but no `train` can only be evaluated.
"""

import csv
import logging
from collections.abc import Mapping
from pathlib import Path

from adcommon.datasets.layouts import Scan, in_order, is_normal, scan_category, scan_defects, subfolders
from adcommon.datasets.splits import quarter_split
from adcommon.errors import BadValue, DatasetNotFound
from adcommon.images import list_images
from adcommon.records import Record, Split

logger = logging.getLogger(__name__)

MANIFEST = "manifest.csv"

_RESERVED = ("train", "test", "validation", "ground_truth")
_LABELS = {"0": 0, "normal": 0, "good": 0, "": 0, "1": 1, "anomalous": 1}


def folder_categories(root: Path) -> dict[str, Path]:
    """The categories found in a folder, by name, each with the folder that holds it.

    Raises:
        DatasetNotFound: there are no images, or no such folder.
    """
    if not root.is_dir():
        raise DatasetNotFound(f"no such folder: {root}\n  Expected a folder of images.")
    if (root / MANIFEST).is_file():
        names = sorted({row["category"] for row in _manifest_rows(root)})
        return dict.fromkeys(names, root)
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
    if (folder / MANIFEST).is_file():
        return _scan_manifest(folder, category, seed)
    if (folder / "train").is_dir() or (folder / "test").is_dir():
        scan = scan_category(folder, category)
        loose = [Record(image, category, 0) for image in list_images(folder / "train")]
        train = in_order([*scan.split.train, *loose])
        if (folder / "test").is_dir():
            return Scan(Split(train, scan.split.test), scan.has_masks, scan.missing, scan.extra)
        return Scan(_split_normals(train, [], seed, folder))
    defects = {
        source.name: source
        for source in subfolders(folder)
        if not is_normal(source) and source.name not in _RESERVED and list_images(source)
    }
    normal_folders = [source for source in subfolders(folder) if is_normal(source)]
    if not normal_folders:
        if defects:
            logger.warning(
                "folder %s holds images, so its folders are passed over: %s", folder, ", ".join(defects)
            )
        normal_folders, defects = [folder], {}
    normal = [Record(image, category, 0) for source in normal_folders for image in list_images(source)]
    scan = scan_defects(defects, folder / "ground_truth", category)
    split = _split_normals(normal, scan.split.test, seed, folder)
    return Scan(split, scan.has_masks, scan.missing, scan.extra)


def _is_category(folder: Path) -> bool:
    sources = subfolders(folder)
    divided = any(is_normal(source) or source.name in ("train", "test") for source in sources)
    return divided or bool(list_images(folder))


def _split_normals(normal: list[Record], anomalous: list[Record], seed: int, root: Path) -> Split:
    """Keep a quarter of the normal images for the test, drawn from the sorted list."""
    normal = in_order(normal)
    trained, tested = quarter_split(len(normal), seed)
    logger.info(
        "folder %s normal %d train %d test %d seed %d", root, len(normal), len(trained), len(tested), seed
    )
    train = [normal[index] for index in sorted(trained)]
    return Split(train, in_order([*(normal[index] for index in tested), *anomalous]))


def _scan_manifest(root: Path, category: str, seed: int) -> Scan:
    rows = [row for row in _manifest_rows(root) if row["category"] == category]
    records = {"train": list[Record](), "test": list[Record](), "": list[Record]()}
    missing: dict[Path, Path] = {}
    for row in rows:
        label = _LABELS[row["label"]]
        mask = root / row["mask"] if row["mask"] else None
        record = Record(
            root / row["path"], category, label, row["defect"] or ("good", "anomalous")[label], mask
        )
        records["test" if label == 1 else row["split"]].append(record)
        if mask is not None and not mask.exists():
            missing[record.image] = mask.parent
    has_masks = any(row["mask"] for row in rows)
    if records[""]:
        split = _split_normals(records[""], records["test"], seed, root)
        return Scan(Split(in_order([*records["train"], *split.train]), split.test), has_masks, missing)
    return Scan(Split(in_order(records["train"]), in_order(records["test"])), has_masks, missing)


def _manifest_rows(root: Path) -> list[Mapping[str, str]]:
    """The rows of manifest.csv, every column filled; the first wrong row is an error with its line number."""
    path = root / MANIFEST
    defaults = {"label": "", "split": "", "category": root.resolve().name, "mask": "", "defect": ""}
    rows: list[Mapping[str, str]] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if "path" not in (reader.fieldnames or ()):
            raise BadValue(f"{path} has no column 'path'; its columns: {', '.join(reader.fieldnames or ())}")
        for row in reader:
            filled = defaults | {name: value.strip() for name, value in row.items() if name and value}
            line = f"{path}, line {reader.line_num}"
            if filled["label"].lower() not in _LABELS:
                raise BadValue(f"{line}: label is '{filled['label']}'; expected 0 or normal, 1 or anomalous")
            filled["label"] = filled["label"].lower()
            if filled["split"] not in ("", "train", "test"):
                raise BadValue(f"{line}: split is '{filled['split']}'; expected train, test or nothing")
            if filled["split"] == "train" and _LABELS[filled["label"]] == 1:
                raise BadValue(f"{line}: an anomalous image cannot train; give it the split test")
            if not (root / filled["path"]).is_file():
                raise BadValue(f"{line}: no such image: {root / filled['path']}")
            rows.append(filled)
    return rows
