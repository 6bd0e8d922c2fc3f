"""AITEX to the layout of MVTec AD under InCTRL's protocol: strips of fabric are cut into squares.

    <source>                                          <target>/AITEX
      NODefect_images/<fabric>/0001_000_02.png          train/good/<fabric>_0001_000_02_0.png     1,692
      Defect_images/0044_019_04.png                     test/good/<fabric>_0001_000_02_7.png        564
      Mask_images/0044_019_04_mask.png                  test/Fuzzyball/0044_019_04_15.png
                                                        ground_truth/Fuzzyball/0044_019_04_15_mask.png

A tile is 256 columns wide, the last one perhaps narrower. Of the strips with defects, the tiles without
defects are dropped. The folder of a defect follows from the second number of the name. A quarter of the
normal tiles tests. Where InCTRL's split depends on the order in which a disk lists its folders, it is
sorted by name here. Masks in several files (`_mask1`, `_mask2`), at which InCTRL's converter stops, are
united. Source: InCTRL (arXiv 2403.06495).
"""

import logging
from collections import defaultdict
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool

from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import Box, decode_all, find_level, quarter, shorten, write_tile, write_truth
from adcommon.data.sources.layouts import subfolders
from adcommon.errors import BadValue, MaskMissing, MaskSizeMismatch
from adcommon.io.images import image_size, list_images, open_mask

logger = logging.getLogger(__name__)

SIDE = 256
"""Width of a tile and height of a strip, pixels."""

DEFECTS = {
    "002": "Broken_end",
    "006": "Broken_yarn",
    "010": "Broken_pick",
    "016": "Weft_curling",
    "019": "Fuzzyball",
    "022": "Cut_selvage",
    "023": "Crease",
    "025": "Warp_ball",
    "027": "Knots",
    "029": "Contamination",
    "030": "Nep",
    "036": "Weft_crack",
}

_NORMAL_TILES = 16


@dataclass(frozen=True, kw_only=True)
class Aitex:
    """Strips cut into squares, with the split of InCTRL."""

    missing_mask: Literal["error", "skip"] = "skip"
    """What becomes of an image with defects that has no mask, as 0100_025_08 of the archive."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; each of the three folders may be nested once in a folder of the same name."""
        root = find_level(source, "NODefect_images", "aitex")
        normal = [
            (image, f"{fabric.name}_{image.stem}_{number}", box)
            for fabric in subfolders(_folder(root, "NODefect_images"))
            for image in list_images(fabric)
            for number, box in enumerate(_boxes(image)[:_NORMAL_TILES])
        ]
        steps = [
            Step(f"AITEX/{folder}/{name}.png", image, partial(write_tile, box=box))
            for folder, tiles in quarter(normal).items()
            for image, name, box in tiles
        ]
        images = list_images(_folder(root, "Defect_images"))
        masks, missing = self._masks(images, _folder(root, "Mask_images"))
        for image, united in zip(
            masks, decode_all(_union, list(masks.items()), "reading masks"), strict=True
        ):
            defect = _defect(image)
            for number, box in enumerate(_boxes(image)):
                mask, name = united[:, box[0] : box[2]], f"{image.stem}_{number}"
                if mask.any():
                    steps.append(Step(f"AITEX/test/{defect}/{name}.png", image, partial(write_tile, box=box)))
                    truth = f"AITEX/ground_truth/{defect}/{name}_mask.png"
                    steps.append(Step(truth, image, partial(write_truth, mask=mask)))
        notes = ["order: by name (fabric, strip, tile); InCTRL's is that of the disk"]
        notes += [f"left out, because it has no mask: {image.name}" for image in missing]
        narrow = [image.name for image in masks if image_size(image)[0] % SIDE]
        if narrow:
            notes.append(f"the last tile is narrower than {SIDE} pixels: {shorten(narrow)}")
        return Plan(
            dataset="aitex",
            source=root,
            folder=target,
            steps=sorted(steps, key=lambda step: (step.source, step.target)),
            options=asdict(self),
            notes=tuple(notes),
        )

    def _masks(self, images: list[Path], folder: Path) -> tuple[dict[Path, list[Path]], list[Path]]:
        """The masks of each image, and the images that have none."""
        by_image: dict[str, list[Path]] = defaultdict(list)
        for mask in list_images(folder):
            by_image[mask.stem.rpartition("_mask")[0]].append(mask)
        missing = [image for image in images if image.stem not in by_image]
        if missing and self.missing_mask == "error":
            raise MaskMissing(
                f"{len(missing)} images with defects have no mask in {folder}: {shorten(missing)}\n"
                "  --missing-mask skip leaves them out."
            )
        for image in missing:
            logger.warning("dataset aitex image %s left out, because it has no mask in %s", image, folder)
        return {image: by_image[image.stem] for image in images if image.stem in by_image}, missing


def _folder(root: Path, name: str) -> Path:
    """A folder of the download, perhaps nested once in itself."""
    folder = find_level(root, name, "aitex") / name
    return folder / name if (folder / name).is_dir() else folder


def _defect(image: Path) -> str:
    """The defect that the second number of an image's name stands for."""
    code = image.stem.partition("_")[2].partition("_")[0]
    if code not in DEFECTS:
        known = ", ".join(f"{number} {name}" for number, name in DEFECTS.items())
        raise BadValue(f"unknown defect code '{code}' in the name of {image}; known: {known}")
    return DEFECTS[code]


def _boxes(image: Path) -> list[Box]:
    """The tiles of a strip, from left to right."""
    width, height = image_size(image)
    if height != SIDE:
        raise BadValue(f"{image} is {width}x{height} pixels; expected strips of height {SIDE}")
    return [(left, 0, min(left + SIDE, width), height) for left in range(0, width, SIDE)]


def _union(masks: tuple[Path, list[Path]]) -> Bool[np.ndarray, "height width"]:
    """The union of the masks of one image."""
    image, parts = masks
    width, height = image_size(image)
    union = np.zeros((height, width), dtype=bool)
    for part in parts:
        mask = open_mask(part)
        if mask.shape != union.shape:
            size = f"{mask.shape[1]}x{mask.shape[0]}"
            raise MaskSizeMismatch(f"{image} is {width}x{height}, its mask {part} is {size} (width x height)")
        union |= mask
    return union
