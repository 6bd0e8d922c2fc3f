"""What decoding every image and mask tells `ad check`."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adcommon.data.check.looks import Look, look_at, suspicions
from adcommon.data.check.tree import Problem, Severity
from adcommon.data.leaks import Pair, find_copies, find_near_copies
from adcommon.data.loco import CONFIG, Saturation, find_config, group_of, read_saturations
from adcommon.data.orientation import settle_masks
from adcommon.data.preprocess import Preprocess
from adcommon.data.sources.layouts import is_normal, pair_masks
from adcommon.errors import MaskSizeMismatch, UserError
from adcommon.io.images import has_transparent_pixels, list_images, mask_values, open_mask, picture
from adcommon.types.records import Record, Split

_FAULTS: dict[str, tuple[Severity, str]] = {
    "unreadable": ("error", "of the images or masks cannot be read"),
    "mismatch": ("error", "masks have not the size of their image"),
}
_UPRIGHT = Preprocess(upright=True)
_CUT = Preprocess(fit="short_side")


@dataclass(frozen=True, slots=True)
class Seen:
    """What decoding one image and its mask showed."""

    record: Record
    look: Look | None = None
    """None: it was not decoded."""
    fault: str = ""
    """One of `_FAULTS`, if it was not decoded."""
    reason: str = ""
    """What is said of it then."""
    marked: bool = False
    """True if the mask has an anomalous pixel."""
    values: tuple[tuple[int, ...], ...] = ()
    """The values besides 0 of each file of the mask."""
    areas: tuple[int, ...] = ()
    """The anomalous pixels of each file of the mask."""


def check_content(split: Split, category: str) -> Iterator[Problem]:
    """Decode everything, in parallel, and report what is found."""
    if split.dataset == "folder":
        split = settle_masks(split)
    records = [*split.train, *_with_masks_of_normal_images(split.test)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        looks = pool.map(_look, records)
        seen = list(tqdm(looks, category, len(records), unit="image", disable=None))
    for fault, (severity, message) in _FAULTS.items():
        found = [(item.record, item.reason) for item in seen if item.fault == fault]
        yield from _listed(severity, category, message, found)
    yield from suspicions([item.look for item in seen if item.look], category)
    yield from _check_masks(seen, category)
    yield from _check_channels(seen, category)
    yield from _check_duplicates(seen, len(split.train), category, is_own=split.dataset == "folder")
    yield from _check_shape(seen, category)


def _with_masks_of_normal_images(records: Sequence[Record]) -> list[Record]:
    """The test images; the normal ones with the mask that some datasets have for them, to look at it."""
    folders = {record.image.parent for record in records if record.label == 0 and record.mask is None}
    masks: dict[Path, Path] = {}
    for folder in folders:
        category = folder.parent.parent
        places = [category / "ground_truth" / folder.name] if is_normal(folder) else []
        if folder.name == "rgb":  # MVTec 3D-AD
            places.append(folder.with_name("gt"))
        for place in places:
            masks |= pair_masks(list_images(folder), place).masks
    return [replace(record, mask=record.mask or masks.get(record.image)) for record in records]


def _look(record: Record) -> Seen:
    mask = record.mask
    parts = [] if mask is None else list_images(mask) if mask.is_dir() else [mask]
    try:
        values = [mask_values(part) for part in parts]
        truth = None
        if mask is not None:  # without decoding a single file again
            truth = _UPRIGHT.as_loaded(values[0] > 0 if len(values) == 1 else open_mask(mask), record)
        with picture(record.image, upright=True) as image:
            pixels = np.asarray(image.convert("RGB"))
            look = look_at(record, pixels, truth, lambda: has_transparent_pixels(record.image))
    except MaskSizeMismatch as error:
        return Seen(record, fault="mismatch", reason=str(error))
    except UserError as error:
        return Seen(record, fault="unreadable", reason=str(error))
    return Seen(
        record,
        look,
        marked=truth is not None and bool(truth.any()),
        values=tuple(_distinct(part) for part in values),
        areas=tuple(int(np.count_nonzero(part)) for part in values),
    )


def _distinct(values: np.ndarray) -> tuple[int, ...]:
    """The different values besides 0, ascending."""
    if values.dtype == np.uint8:
        different = np.flatnonzero(np.bincount(values.ravel()))
    else:
        different = np.unique(values)
    return tuple(int(value) for value in different if value)


def _check_masks(seen: list[Seen], category: str) -> Iterator[Problem]:
    masked = [item for item in seen if item.look and item.record.mask is not None]
    empty = [(item.record, "") for item in masked if item.record.label == 1 and not item.marked]
    yield from _listed("warning", category, "anomalous images have an empty mask", empty)
    full = [(item.record, "") for item in masked if item.record.label == 0 and item.marked]
    yield from _listed("warning", category, "normal images have a mask that is not empty", full)
    several = [(item.record, max(item.values, key=len)) for item in masked]
    grey = [(record, f"{record.mask}: {_few(values)}") for record, values in several if len(values) > 1]
    message = "masks are not binary: every value above 0 counts as anomalous"
    yield from _listed("warning", category, message, grey)


def _check_channels(seen: list[Seen], category: str) -> Iterator[Problem]:
    """MVTec LOCO AD: each channel has a value that its defects_config.json explains."""
    config = find_config(item.record for item in seen)
    grouped = [item for item in seen if item.values and group_of(item.record) is not None]
    channels = [item for item in grouped if item.record.mask and item.record.mask.is_dir()]
    if config is None:
        if any(item.record.label == 1 for item in channels):
            message = f"masks are folders of channels, and there is no {CONFIG} beside them: no sPRO"
            yield Problem("warning", category, message)
        return
    try:
        saturations = read_saturations(config)
    except UserError as error:
        yield Problem("error", category, str(error), (config,))
        return
    unknown = [
        (item.record, f"{item.record.mask}: {_few(values)}")
        for item in channels
        for values in item.values
        if len(values) != 1 or values[0] not in saturations
    ]
    yield from _listed("error", category, f"channels have values that {config} does not explain", unknown)
    clipped = [
        (item.record, f"{item.record.mask}: {area} pixels, {_threshold(saturations, values)} saturate")
        for item in channels
        for values, area in zip(item.values, item.areas, strict=True)
        if (_threshold(saturations, values) or 0) > area
    ]
    message = "defects are smaller than the area at which they saturate: the whole defect is wanted"
    yield from _listed("note", category, message, clipped)


def _threshold(saturations: dict[int, Saturation], values: tuple[int, ...]) -> float | None:
    """The absolute threshold of a channel, pixels; None if it is relative or unknown."""
    saturation = saturations.get(values[0]) if len(values) == 1 else None
    return None if saturation is None or saturation.relative else saturation.threshold


def _check_duplicates(seen: list[Seen], trained: int, category: str, *, is_own: bool) -> Iterator[Problem]:
    """Images whose pixels are equal: in training and test, normal and anomalous, or only twice there."""
    prints = [item.look.print if item.look else None for item in seen]
    known, tested = ([item for item in some if item] for some in (prints[:trained], prints[trained:]))
    copies = find_copies(known, tested)
    if copies:
        message = f"{len(copies)} images are the same in training and test: the test is too easy"
        paths = tuple(dict.fromkeys(path for pair in copies for path in pair))
        yield Problem("error" if is_own else "warning", category, message, paths, _pairs(copies))
    if is_own and (near := find_near_copies(known, tested)):
        message = f"{len(near)} test images are nearly the same as training images"
        yield Problem("warning", category, message, tuple(image for image, _ in near), _pairs(near))
    alike: dict[bytes, list[int]] = defaultdict(list)
    for index, item in enumerate(prints):
        if item:
            alike[item.digest].append(index)
    found: dict[str, list[Path]] = {
        "images are the same, once normal and once anomalous": [],
        "images occur more than once in the same part": [],
    }
    for indices in alike.values():
        in_both = len({index < trained for index in indices}) == 2
        with_both_labels = len({seen[index].record.label for index in indices}) == 2
        repeated = len(indices) > 1 and not in_both and not with_both_labels
        for images, holds in zip(found.values(), (with_both_labels, repeated), strict=True):
            images += [seen[index].record.image for index in indices] if holds else []
    for message, images in found.items():
        if images:
            yield Problem("warning", category, f"{len(images)} {message}", tuple(images))


def _pairs(pairs: Sequence[Pair]) -> tuple[str, ...]:
    return tuple(f"{image} = {other}" for image, other in pairs)


def _check_shape(seen: list[Seen], category: str) -> Iterator[Problem]:
    """What recipes that cut out the middle would not look at."""
    sizes = Counter(item.look.header.upright_size for item in seen if item.look)
    words = next((said for size, _ in sizes.most_common() if (said := _CUT.unseen_words(*size))), None)
    if words:
        yield Problem("note", category, f"with recipes that keep the proportions (fit short_side), {words}")


def _listed(
    severity: Severity, category: str, message: str, found: list[tuple[Record, str]]
) -> Iterator[Problem]:
    """One problem for all records found, each with what is said of it; none if there are none."""
    if found:
        paths = tuple(record.image for record, _ in found)
        details = tuple(text for _, text in found if text)
        yield Problem(severity, category, f"{len(found)} {message}", paths, details)


def _few(values: Sequence[int]) -> str:
    shown = ", ".join(map(str, values[:8]))
    return f"values {shown}, ... ({len(values)} in all)" if len(values) > 8 else f"values {shown or 'none'}"
