"""What decoding every image and mask tells `ad check`."""

import hashlib
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from adcommon.data.check.problems import Problem, Severity
from adcommon.data.loco import CONFIG, Saturation, find_config, read_saturations
from adcommon.data.sources.layouts import is_normal, pair_masks
from adcommon.errors import MaskSizeMismatch, UserError
from adcommon.io.images import image_size, list_images, mask_values, open_image, open_mask
from adcommon.types.records import Record, Split

HUGE_PIXELS = 89_478_485
"""Above it Pillow suspects a file that was made to exhaust memory; such images are not decoded here."""

_THREADS = 8


@dataclass(frozen=True, slots=True)
class Seen:
    """What decoding one image and its mask showed."""

    record: Record
    digest: bytes = b""
    """Of the decoded pixels; empty if the image was not decoded."""
    huge: str = ""
    unreadable: str = ""
    mismatch: str = ""
    marked: bool = False
    """True if the mask has an anomalous pixel."""
    values: tuple[tuple[int, ...], ...] = ()
    """The values besides 0 of each file of the mask."""
    areas: tuple[int, ...] = ()
    """The anomalous pixels of each file of the mask."""


def check_content(split: Split, category: str) -> Iterator[Problem]:
    """Decode everything, in parallel, and report what is found."""
    records = [*split.train, *_with_masks_of_normal_images(split.test)]
    with warnings.catch_warnings(), ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # they are reported as huge
        progress = tqdm(
            pool.map(_look, records), total=len(records), desc=category, unit="image", disable=None
        )
        seen = list(progress)
    yield from _check_files(seen, category)
    yield from _check_masks(seen, category)
    yield from _check_channels(seen, category)
    yield from _check_duplicates(seen, len(split.train), category)


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
    parts = (
        ()
        if record.mask is None
        else tuple(list_images(record.mask) if record.mask.is_dir() else [record.mask])
    )
    try:
        for path in (record.image, *parts):
            width, height = image_size(path)
            if width * height > HUGE_PIXELS:
                return Seen(
                    record, huge=f"{path} ({width}x{height}, {width * height * 3 / 1e9:.1f} GB decoded)"
                )
        values = [mask_values(part) for part in parts]
        mask = _united(record.mask, values)
        size = None if mask is None else (mask.shape[1], mask.shape[0])
        image = np.asarray(open_image(record.image, expected_size=size))
    except MaskSizeMismatch as error:
        return Seen(record, mismatch=f"{error}; mask: {record.mask}")
    except UserError as error:
        return Seen(record, unreadable=str(error))
    return Seen(
        record,
        hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).digest(),
        marked=mask is not None and bool(mask.any()),
        values=tuple(_distinct(part) for part in values),
        areas=tuple(int(np.count_nonzero(part)) for part in values),
    )


def _united(mask: Path | None, values: Sequence[np.ndarray]) -> np.ndarray | None:
    """The mask, without decoding a single file again."""
    if mask is None:
        return None
    return values[0] > 0 if len(values) == 1 else open_mask(mask)


def _distinct(values: np.ndarray) -> tuple[int, ...]:
    """The different values besides 0, ascending."""
    if values.dtype == np.uint8:
        return tuple(
            int(value) for value in np.flatnonzero(np.bincount(values.ravel(), minlength=256)) if value
        )
    return tuple(int(value) for value in np.unique(values) if value)


def _check_files(seen: list[Seen], category: str) -> Iterator[Problem]:
    yield from _listed(
        "error",
        category,
        "of the images or masks cannot be read",
        ((item.record, item.unreadable) for item in seen if item.unreadable),
    )
    yield from _listed(
        "warning",
        category,
        "images are huge, and were not decoded",
        ((item.record, item.huge) for item in seen if item.huge),
    )
    yield from _listed(
        "error",
        category,
        "masks have not the size of their image",
        ((item.record, item.mismatch) for item in seen if item.mismatch),
    )


def _check_masks(seen: list[Seen], category: str) -> Iterator[Problem]:
    masked = [item for item in seen if item.digest and item.record.mask is not None]
    yield from _listed(
        "warning",
        category,
        "anomalous images have an empty mask",
        ((item.record, "") for item in masked if item.record.label == 1 and not item.marked),
    )
    yield from _listed(
        "warning",
        category,
        "normal images have a mask that is not empty",
        ((item.record, "") for item in masked if item.record.label == 0 and item.marked),
    )
    several = [(item.record, max(item.values, key=len)) for item in masked]
    yield from _listed(
        "warning",
        category,
        "masks are not binary: every value above 0 counts as anomalous",
        ((record, f"{record.mask}: {_few(values)}") for record, values in several if len(values) > 1),
    )


def _check_channels(seen: list[Seen], category: str) -> Iterator[Problem]:
    """MVTec LOCO AD: each channel has a value that its defects_config.json explains."""
    config = find_config(item.record for item in seen)
    channels = [
        item for item in seen if item.record.mask is not None and item.record.mask.is_dir() and item.values
    ]
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


def _check_duplicates(seen: list[Seen], trained: int, category: str) -> Iterator[Problem]:
    """Images whose pixels are equal: in training and test, normal and anomalous, or only twice there."""
    copies: dict[bytes, list[int]] = defaultdict(list)
    for index, item in enumerate(seen):
        if item.digest:
            copies[item.digest].append(index)
    leaked: list[Path] = []
    contradictory: list[Path] = []
    repeated: list[Path] = []
    for indices in copies.values():
        images = [seen[index].record.image for index in indices]
        in_both = len({index < trained for index in indices}) == 2
        with_both_labels = len({seen[index].record.label for index in indices}) == 2
        leaked += images if in_both else []
        contradictory += images if with_both_labels else []
        repeated += images if len(indices) > 1 and not in_both and not with_both_labels else []
    for message, images in (
        ("images are the same in training and test: the test is too easy", leaked),
        ("images are the same, once normal and once anomalous", contradictory),
        ("images occur more than once in the same part", repeated),
    ):
        if images:
            yield Problem("warning", category, f"{len(images)} {message}", tuple(images))


def _listed(
    severity: Severity, category: str, message: str, found: Iterable[tuple[Record, str]]
) -> Iterator[Problem]:
    """One problem for all records found, each with what is said of it; none if there are none."""
    found = list(found)
    if found:
        paths = tuple(record.image for record, _ in found)
        details = tuple(text for _, text in found if text)
        yield Problem(severity, category, f"{len(found)} {message}", paths, details)


def _few(values: Sequence[int]) -> str:
    shown = ", ".join(map(str, values[:8]))
    return f"values {shown}, ... ({len(values)} in all)" if len(values) > 8 else f"values {shown or 'none'}"
