"""From a dataset's name to its records: find its folder, scan it, and say clearly what is wrong with it."""

import logging
from collections.abc import Iterator
from pathlib import Path

from adcommon.datasets.catalog import DATASETS, Dataset
from adcommon.datasets.embedded import scan_elpv, scan_textile
from adcommon.datasets.folder import folder_categories, scan_folder
from adcommon.datasets.layouts import Scan, is_normal, mask_places, scan_category, subfolders
from adcommon.datasets.synthetic import draw_category
from adcommon.errors import DatasetNotFound, EmptySplit, MaskMissing, NotPrepared, unknown_name
from adcommon.records import Split

logger = logging.getLogger(__name__)

_SHOWN = 5
"""Paths of one kind that a message lists."""


def find_dataset(name: str) -> Dataset:
    """The facts about a dataset; an unknown name is an error that suggests the nearest one."""
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS)
    return DATASETS[name]


def find_categories(dataset: str, root: Path | None) -> tuple[str, ...]:
    """The categories of a dataset that are run by default, in order; those of `folder` are found on disk."""
    entry = find_dataset(dataset)
    if entry.layout == "folder":
        return tuple(folder_categories(_given(entry, root)))
    return entry.categories


def load_records(dataset: str, root: Path | None, category: str, *, seed: int = 0) -> Split:
    """List the images of one category.

    Args:
        root: the folder that holds the dataset's folder, or that folder itself; unused by embedded datasets.
        seed: draws what is drawn: the images of `synthetic`, and the split of a `folder` that has none.

    Raises:
        DatasetNotFound: says what to download and where to put it, or where else it was seen.
        NotPrepared: the unprepared download; says how to prepare it.
        UnknownName: of the dataset or the category, with the nearest known one.
        EmptySplit: no images to train or to test with.
        MaskMissing: anomalous images without masks where there should be some.
    """
    entry = find_dataset(dataset)
    scan = scan_dataset(entry, root, category, seed=seed)
    _refuse_empty(entry, scan.split, category)
    if scan.missing and (entry.pixel_truth or scan.has_masks):
        raise MaskMissing(missing_masks(scan.missing, category))
    if scan.extra:
        logger.warning("dataset %s %s", dataset, extra_masks(scan.extra, category))
    for difference in count_differences(entry, scan.split, category):
        logger.warning("dataset %s %s", dataset, difference)
    return scan.split


def scan_dataset(entry: Dataset, root: Path | None, category: str, *, seed: int = 0) -> Scan:
    """Scan one category wherever its dataset keeps it, without judging what was found."""
    if entry.layout == "folder":
        found = folder_categories(_given(entry, root))
        if category not in found:
            raise unknown_name(f"category in {root}", category, found)
        return scan_folder(found[category], category, seed=seed)
    if category not in entry.categories + entry.extra_categories:
        raise unknown_name(f"category of '{entry.name}'", category, entry.categories + entry.extra_categories)
    match entry.layout:
        case "elpv":
            return scan_elpv(category)
        case "textile":
            return scan_textile(category)
        case "synthetic":
            return scan_category(draw_category(category, seed), category)
        case "medical":
            return scan_category(find_root(entry, root), category, other_train_folders=True)
        case _:
            return scan_category(find_root(entry, root) / category, category)


def find_root(entry: Dataset, root: Path | None) -> Path:
    """The folder of a prepared dataset: `root` itself, or one of its usual names below it."""
    root = _given(entry, root)
    for folder in _candidates(entry, root):
        if _holds(entry, folder):
            return folder
    raw = next(
        (folder for folder in _around(root) for mark in entry.raw_marks if any(folder.glob(mark))), None
    )
    if raw is not None:
        raise NotPrepared(
            f"this is the raw {entry.title} download: {raw}\n  Run: {_prepare_command(entry, raw, root)}"
        )
    raise DatasetNotFound(_where_to_get(entry, root))


def missing_masks(missing: dict[Path, Path], category: str) -> str:
    """The message about anomalous images without masks."""
    image, folder = next(iter(missing.items()))
    tried = ", ".join(str(place) for place in mask_places(image, folder))
    return (
        f"{len(missing)} anomalous images of category '{category}' have no mask; the first is {image}\n"
        f"  Looked for: {tried}\n"
        "  Copy the masks there; to go without pixel truth, use a dataset `folder` that has no ground_truth."
    )


def extra_masks(extra: list[Path], category: str) -> str:
    """The message about masks that belong to no image."""
    shown = ", ".join(str(mask) for mask in extra[:_SHOWN])
    return (
        f"{category}: {len(extra)} masks belong to no image: {shown}{', ...' if len(extra) > _SHOWN else ''}"
    )


def count_differences(entry: Dataset, split: Split, category: str) -> list[str]:
    """Where counts differ from the published ones: "bottle train: expected 209 images, found 208"."""
    if category not in entry.counts:
        return []
    return [f"{category} {difference}" for difference in entry.counts[category].differences(split)]


def _given(entry: Dataset, root: Path | None) -> Path:
    if root is None:
        raise DatasetNotFound(f"where is {entry.title}? Pass --data-root DIR, or set AD_DATA to that folder.")
    return root


def _refuse_empty(entry: Dataset, split: Split, category: str) -> None:
    where = f"category '{category}' of '{entry.name}'"
    if not split.train:
        raise EmptySplit(f"{where} has no normal training images; expected some in train/good")
    labels = {record.label for record in split.test}
    if entry.layout == "folder":
        if labels != {0, 1}:
            kind = "normal" if 0 not in labels else "anomalous"
            logger.warning("%s has no %s test images: image AUROC cannot be computed", where, kind)
        return
    if 0 not in labels:
        raise EmptySplit(f"test/good of {where} is empty: image AUROC cannot be computed")
    if 1 not in labels:
        raise EmptySplit(f"{where} has no anomalous test images: image AUROC cannot be computed")


def _holds(entry: Dataset, folder: Path) -> bool:
    """True if `folder` is a prepared tree of this dataset."""
    if entry.layout == "medical":
        return any(is_normal(source) for source in subfolders(folder / "train"))
    return any((folder / category / "train").is_dir() for category in entry.categories)


def _candidates(entry: Dataset, root: Path) -> Iterator[Path]:
    """`root` and the dataset's usual folders below it, each also nested once in a folder of the same name."""
    for folder in (root, *(_below(root, name) for name in entry.folders)):
        if folder is not None:
            yield folder
            yield folder / folder.name


def _below(root: Path, relative: str) -> Path | None:
    """The folder `relative` below `root`, whatever the case of its letters."""
    folder = root
    for name in relative.split("/"):
        matches = [child for child in subfolders(folder) if child.name.casefold() == name.casefold()]
        if not matches:
            return None
        folder = matches[0]
    return folder


def _around(root: Path) -> list[Path]:
    """`root` and what lies one level below it, and two levels below in a folder `original`."""
    children = subfolders(root)
    return [root, *children, *(child / "original" for child in children)]


def _where_to_get(entry: Dataset, root: Path) -> str:
    example = "train/NORMAL" if entry.layout == "medical" else f"{entry.categories[0]}/train/good"
    lines = [f"{entry.title} not found at {root}" + ("" if root.is_dir() else " (no such folder)")]
    lines.append(f"  Expected folders such as {example} there or in {root / entry.folder}.")
    seen = next((folder for folder in _nearby(entry, root) if _holds(entry, folder)), None)
    if seen is not None:
        lines.append(f"  Found it at {seen}: pass --data-root {seen}")
        return "\n".join(lines)
    lines.append(f"  Get {entry.download}.")
    lines.append(f"  Official page: {entry.url} (licence: {entry.licence})")
    if entry.preparer is not None:
        lines.append(f"  Then run: {_prepare_command(entry, Path('DOWNLOAD'), root)}")
    lines.append(f"  Then run: uv run ad check {entry.name} --data-root {root}")
    return "\n".join(lines)


def _prepare_command(entry: Dataset, raw: Path, root: Path) -> str:
    save = root / entry.folder.split("/")[0]
    return f"uv run ad prepare {entry.preparer} --data-folder {raw} --save-folder {save}"


def _nearby(entry: Dataset, root: Path) -> Iterator[Path]:
    """One level down and one up; a medical tree looks like any other, so only its usual name counts."""
    usual = {name.casefold() for names in entry.folders for name in names.split("/")}
    for start in (*subfolders(root), root.parent):
        for folder in _candidates(entry, start):
            if entry.layout != "medical" or folder.name.casefold() in usual:
                yield folder
