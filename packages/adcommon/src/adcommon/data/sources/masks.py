"""Which mask belongs to which of the user's own images: by stem, and by the folders around both.

A mask is called as its image, or so with `_mask`, `_label`, `_gt` and the like at its end, in any case; or it
is a folder of the image's name that holds parts. Of several masks of one stem, the one counts whose folders
repeat the image's.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adcommon.data.sources.layouts import MASK_EXTENSIONS, Pairing
from adcommon.data.sources.meaning import Parts
from adcommon.data.sources.tree import Place
from adcommon.errors import UserError
from adcommon.io.images import mask_values

_OF_MASK = re.compile(
    r"[ ._-]?(masks?|labels?|gt|ground[ ._-]?truth|seg|segmentation|annotation)$|^(mask|gt)[ ._-]"
)
_MOST_VALUES = 32
_BLACK_OR_WHITE = 0.98
"""Share of the pixels."""
_MIRROR = "  Put the masks into folders that are called as those of the images."


@dataclass(frozen=True, slots=True)
class Found:
    """An image or a mask, and what its folders say."""

    path: Path
    place: Place

    @property
    def stem(self) -> str:
        """Of its name, without regard to case."""
        return self.path.stem.casefold()


def pair(images: Sequence[Found], masks: Sequence[Found]) -> Pairing:
    """Find the mask of each anomalous image among the files in folders of masks."""
    parts = _folders_of_parts(images, masks)
    inside = {mask.path for mask in masks if mask.path.parent in parts}
    by_stem: dict[str, list[Found]] = defaultdict(list)
    called = {image.stem for image in images}
    for mask in masks:
        if mask.path not in inside and mask.path.suffix.lower() in MASK_EXTENSIONS:
            by_stem[mask.stem if mask.stem in called else image_of(mask.stem)].append(mask)
    for folder, found in parts.items():
        by_stem[folder.name.casefold()].append(found)
    pairing = Pairing({}, [], [], [])
    used: dict[Path, list[Path]] = defaultdict(list)
    for image in images:
        found_masks = nearest(image, by_stem.get(image.stem, []))
        for mask in found_masks:
            used[mask.path].append(image.path)
        if len(found_masks) > 1:
            listed = ", ".join(str(mask.path) for mask in found_masks)
            pairing.wrong.append(
                f"{len(found_masks)} masks for one image, {image.path}: {listed}\n  Keep one of them."
            )
        elif found_masks:
            pairing.masks[image.path] = found_masks[0].path
        else:
            pairing.missing.append(image.path)
    for path, sharing in used.items():
        if len({image.parent for image in sharing}) > 1:
            listed = ", ".join(map(str, sharing))
            pairing.wrong.append(f"one mask, {path}, for {len(sharing)} images: {listed}\n{_MIRROR}")
    left = (mask.path for found in by_stem.values() for mask in found if not _is_of_normal_image(mask))
    pairing.extra.extend(sorted(path for path in left if path not in used))
    return pairing


def nearest(image: Found, candidates: Sequence[Found]) -> list[Found]:
    """Of files of the right name, those whose folders agree best with the image's; none if none agrees."""
    by_distance: dict[int, list[Found]] = defaultdict(list)
    for candidate in candidates:
        if (distance := _distance(image.place, candidate.place)) is not None:
            by_distance[distance].append(candidate)
    best = by_distance[min(by_distance)] if by_distance else []
    same_case = [mask for mask in best if mask.path.name.startswith(image.path.stem)]
    return same_case if len(best) > 1 and same_case else best


def image_of(stem: str) -> str:
    """The stem of the image that a mask's stem names, in lower case: "7" of "7_Mask" and of "mask-7"."""
    stem = stem.casefold()
    return _OF_MASK.sub("", stem) or stem


def masks_beside(images: Iterable[Path]) -> set[Path]:
    """Of the images in one folder those that are the masks of others, by name and by their values."""
    stems = {image.stem.casefold(): image for image in images}
    named = [image for stem, image in stems.items() if image_of(stem) != stem and image_of(stem) in stems]
    return set(named) if named and all_are_masks(named) else set()


def all_are_masks(pictures: Sequence[Path]) -> bool:
    """True if the first, the middle and the last of the pictures look like masks."""
    return all(map(_has_few_values, _some(pictures)))


def any_are_masks(pictures: Sequence[Path]) -> bool:
    """True if one of the three looks like a mask."""
    return any(map(_has_few_values, _some(pictures)))


def _some(pictures: Sequence[Path]) -> set[Path]:
    return {pictures[0], pictures[len(pictures) // 2], pictures[-1]}


def _has_few_values(path: Path) -> bool:
    """True for a picture of few values, and for one of two that JPEG or soft edges have blurred."""
    try:
        values = mask_values(path)
    except UserError:
        return False
    step = max(1, round((values.size / 1e6) ** 0.5))
    values = values[::step, ::step].astype(np.float64)
    low, high = values.min(), values.max()
    margin = (high - low) / 8
    two = np.mean((values <= low + margin) | (values >= high - margin)) > _BLACK_OR_WHITE
    return bool(two) or len(np.unique(values)) <= _MOST_VALUES


def _folders_of_parts(images: Sequence[Found], masks: Sequence[Found]) -> dict[Path, Found]:
    """Folders of masks that are called as an image and lie where its mask would."""
    by_stem: dict[str, list[Place]] = defaultdict(list)
    for image in images:
        by_stem[image.stem].append(image.place)
    folders: dict[Path, Found] = {}
    for mask in masks:
        folder, place = mask.path.parent, mask.place
        name = folder.name.casefold()
        above = place.key[:-1] if place.key[-1:] == (name,) else place.key
        named = place.named[:-1] if place.named[-1:] == (name,) else place.named
        if folder not in folders and any(above in (one.key, one.named) for one in by_stem.get(name, ())):
            place = Place("masks", True, place.defect, place.split, above, named, place.source)
            folders[folder] = Found(folder, place)
    return folders


def _distance(image: Place, mask: Place) -> int | None:
    """How far the folders of a mask are from repeating its image's; None: they are those of other images."""
    if mask.split not in ("other", image.split):
        return None
    if image.key == mask.key:
        return 0
    if image.named == mask.named:
        return 1
    if _is_within(mask.key, image.key) or _is_within(image.named, mask.named):
        return 2
    return None


def _is_within(part: Parts, whole: Parts) -> bool:
    """True if a part is the whole with some names left out."""
    rest = iter(whole)
    return all(name in rest for name in part)


def _is_of_normal_image(mask: Found) -> bool:
    return mask.place.of_normal or mask.place.split in ("train", "val")
