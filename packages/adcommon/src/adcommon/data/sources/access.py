"""From a dataset's name to its records: scan its folder, and say clearly what is wrong with it."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import indent

from adcommon.data.catalog import DATASETS, Dataset
from adcommon.data.messages import SHOWN, shorten
from adcommon.data.orientation import settle_masks
from adcommon.data.sources.cifar10 import has_batches, scan_cifar10
from adcommon.data.sources.depth import refuse_depth
from adcommon.data.sources.embedded import PACKAGES, scan_elpv, scan_textile
from adcommon.data.sources.folder import OwnImages
from adcommon.data.sources.layouts import (
    Scan,
    lying_there,
    mask_places,
    scan_ad2,
    scan_category,
    scan_loco,
    scan_nested,
    scan_two_classes,
    subfolders,
)
from adcommon.data.sources.meaning import NOTHING, Meaning
from adcommon.data.sources.roots import find_root, given, search
from adcommon.data.sources.synthetic import draw_category, drawn_folders
from adcommon.data.sources.understood import left_over, understood
from adcommon.errors import BadValue, DatasetNotFound, EmptySplit, MaskMissing, unknown_name
from adcommon.io.images import list_images
from adcommon.io.listing import describe
from adcommon.types.records import Split

logger = logging.getLogger(__name__)


def find_dataset(name: str) -> Dataset:
    """The facts about a dataset; an unknown name is an error that suggests the nearest one."""
    if name not in DATASETS:
        refuse_depth(name)
        raise unknown_name("dataset", name, DATASETS)
    return DATASETS[name]


def find_categories(dataset: str, root: Path | None, *, meaning: Meaning = NOTHING) -> tuple[str, ...]:
    """The categories of a dataset that are run by default, in order; those of `folder` are found on disk."""
    entry = find_dataset(dataset)
    own = find_own(entry, root, meaning)
    return entry.categories if own is None else tuple(own.categories)


def find_own(entry: Dataset, root: Path | None, meaning: Meaning = NOTHING) -> OwnImages | None:
    """The user's own images; None for the datasets of the catalogue.

    Raises:
        BadValue: something is said of the folders of a dataset that are known.
    """
    if entry.layout == "folder":
        return OwnImages(given(entry, root), meaning)
    meaning.refuse_for(f"the dataset {entry.name}")
    return None


def load_records(
    dataset: str, root: Path | None, category: str, *, seed: int = 0, meaning: Meaning = NOTHING
) -> Split:
    """List the images of one category.

    Args:
        root: the folder that holds the dataset's folder, or that folder itself; unused by embedded datasets.
        seed: draws what is drawn: the images of `synthetic`, the split of a `folder` that has none, anomalous
            images of `cifar10` where a setting takes some of them.
        meaning: what the user says of folders of a `folder`.

    Raises:
        DatasetNotFound: says what to download and where to put it, or where else it was seen.
        NotPrepared: the unprepared download; says how to prepare it.
        UnknownName: of the dataset or the category, with the nearest known one.
        EmptySplit: no images to train or to test with.
        BadValue: anomalous images among the training images, two masks for one image, or folders of which it
            is unclear what they mean.
        MaskMissing: anomalous images without masks where there should be some.
    """
    return load_splits(dataset, root, (category,), seed=seed, meaning=meaning)[category]


def load_splits(
    dataset: str,
    root: Path | None,
    categories: Sequence[str] = (),
    *,
    seed: int = 0,
    meaning: Meaning = NOTHING,
) -> dict[str, Split]:
    """List the images of several categories, by default of all, in the order given; see `load_records`.

    What was understood of each is logged, and what lies there and is not used.
    """
    entry = find_dataset(dataset)
    own = find_own(entry, root, meaning)
    splits = {}
    for name in categories or (entry.categories if own is None else own.categories):
        scan = scan_dataset(entry, root, name, seed=seed, own=own)
        folder = category_folder(entry, root, name, own)
        _refuse_wrong(entry, scan, name, folder)
        _say_what_was_understood(entry, scan, name, folder, seed)
        split = replace(scan.split, dataset=dataset)
        splits[name] = split if own is None else settle_masks(split)
    if own is not None and (outside := own.outside()):
        logger.warning("%s: not used:\n%s", root, indent(describe(outside), "  "))
    return splits


def scan_dataset(
    entry: Dataset, root: Path | None, category: str, *, seed: int = 0, own: OwnImages | None = None
) -> Scan:
    """Scan one category wherever its dataset keeps it, without judging what was found.

    Args:
        own: the user's own images, for `folder`.
    """
    if own is not None:
        if category not in own.categories:
            raise unknown_name(f"category in {root}", category, own.categories)
        return own.scan(category, seed=seed)
    if entry.layout == "textures":
        uses = ", ".join(entry.uses.values())
        raise BadValue(f"'{entry.name}' has nothing to test; it is used for: {uses}")
    if entry.layout == "cifar10" and has_batches(folder := find_root(entry, root)):
        return scan_cifar10(folder, category, seed=seed)
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
        case "mvtec_3d":
            return scan_nested(find_root(entry, root) / category, category, "rgb", "gt")
        case "bmad":
            return scan_nested(find_root(entry, root) / category, category, "img", "label")
        case "mvtec_ad_2":
            return scan_ad2(find_root(entry, root) / category, category)
        case "two_classes":
            return scan_two_classes(find_root(entry, root) / category, category)
        case "mvtec_loco":
            return scan_loco(find_root(entry, root) / category, category)
        case _:
            return scan_category(find_root(entry, root) / category, category)


def category_folder(
    entry: Dataset, root: Path | None, category: str, own: OwnImages | None = None
) -> Path | None:
    """The folder that holds a category on the user's disk; None for embedded datasets."""
    if own is not None:
        return own.folder(category)
    match entry.layout:
        case "elpv" | "textile" | "synthetic":
            return None
        case "cifar10" if has_batches(folder := find_root(entry, root)):
            return folder
        case "medical" | "textures":
            return find_root(entry, root)
        case _:
            return find_root(entry, root) / category


def dtd_textures(root: Path) -> list[Path]:
    """The 5,640 images of DTD, sorted by path, which RealNet blends into normal images.

    Args:
        root: as for `load_records`.

    Raises:
        DatasetNotFound: says what to download, and which option does without it.
    """
    entry = find_dataset("dtd")
    try:
        folder = find_root(entry, root)
    except DatasetNotFound as error:
        raise DatasetNotFound(
            f"{error}\n  It is needed because `anomaly_types` gives dtd a share; a share of 0 does without."
        ) from None
    textures = [image for source in subfolders(folder / "images") for image in list_images(source)]
    if not textures:
        raise EmptySplit(f"no textures in {folder / 'images'}; expected folders of images such as banded")
    return textures


def locate(entry: Dataset, root: Path) -> Path | None:
    """Where a dataset lies, or None: below `root`, or in the installation if it is embedded."""
    try:
        match entry.layout:
            case "elpv" | "textile":
                return PACKAGES[entry.layout]()
            case "synthetic":
                return drawn_folders()
            case "folder":
                return None
            case _:
                return search(entry, root)
    except DatasetNotFound:  # the package that brings it is not installed
        return None


def missing_masks(missing: dict[Path, Path], category: str) -> str:
    """The message about anomalous images without masks."""
    image, folder = next(iter(missing.items()))
    tried = ", ".join(str(place) for place in mask_places(image, folder))
    there = "".join(f"\n  There lies {path}: {why}" for path, why in lying_there(image, folder).items())
    return (
        f"{len(missing)} anomalous images of category '{category}' have no mask; the first is {image}\n"
        f"  Looked for: {tried}{there}\n"
        "  Put the masks there; without any folder of masks, a dataset `folder` has no pixel metrics."
    )


def extra_masks(extra: list[Path]) -> str:
    """The message about masks that belong to no image."""
    return f"{len(extra)} masks belong to no image: {shorten(extra)}"


def count_differences(entry: Dataset, scan: Scan, category: str) -> list[str]:
    """Where counts differ from the published ones: "train: expected 209 images, found 208"."""
    counts = entry.counts.get(category) if scan.comparable else None
    return [] if counts is None else counts.differences(scan.split)


def _refuse_wrong(entry: Dataset, scan: Scan, category: str, folder: Path | None) -> None:
    """Raise the errors of `load_records`, and log what is less than an error."""
    if scan.wrong:
        raise BadValue("\n".join(scan.wrong[:SHOWN]))
    _refuse_empty(entry, scan.split, category, folder)
    if scan.extra:
        logger.warning("dataset %s %s: %s", entry.name, category, extra_masks(scan.extra))
    if scan.missing and (entry.pixel_truth or scan.has_masks):
        raise MaskMissing(missing_masks(scan.missing, category))
    for difference in count_differences(entry, scan, category):
        logger.warning("dataset %s %s %s", entry.name, category, difference)


def _say_what_was_understood(
    entry: Dataset, scan: Scan, category: str, folder: Path | None, seed: int
) -> None:
    logger.info("%s", understood(category, scan, folder, seed))
    unused = scan.unused
    if entry.layout != "folder" and folder is not None and not has_batches(folder):
        unused = left_over(scan, folder)
    if unused:
        level = logging.WARNING if entry.layout == "folder" else logging.INFO
        logger.log(level, "%s: not used:\n%s", category, indent(describe(unused), "  "))


def _refuse_empty(entry: Dataset, split: Split, category: str, folder: Path | None) -> None:
    where = f"category '{category}' of '{entry.name}'"
    if folder is not None and not folder.exists():
        raise DatasetNotFound(f"{where} is not there: no folder {folder}")
    if not split.train:
        message = f"no normal training images of {where} in {folder}; expected some in train/good"
        if entry.layout != "folder" or not split.test:
            raise EmptySplit(message)
        logger.warning(message)
    labels = {record.label for record in split.test}
    for label, kind in enumerate(("normal", "anomalous")):
        if label not in labels:
            message = f"no {kind} test images of {where} in {folder}: image AUROC cannot be computed"
            if entry.layout != "folder":
                raise EmptySplit(message)
            logger.warning(message)
