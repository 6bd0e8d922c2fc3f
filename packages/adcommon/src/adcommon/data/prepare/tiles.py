"""KolektorSDD and AITEX to the layout of MVTec AD under InCTRL's protocol: every image is cut into tiles.

    <source>                                  <target>/SDD
      kos01/Part0.jpg                           train/good/kos01_Part0_0.png                857
      kos01/Part0_label.bmp                     test/good/kos01_Part0_1.png                 286
                                                test/defect/kos01_Part0_2.png                54
                                                ground_truth/defect/kos01_Part0_2_mask.png

    <source>                                  <target>/AITEX
      NODefect_images/<fabric>/0001_000_02.png  train/good/<fabric>_0001_000_02_0.png     1,692
      Defect_images/0044_019_04.png             test/good/<fabric>_0001_000_02_7.png        564
      Mask_images/0044_019_04_mask.png          test/Fuzzyball/0044_019_04_15.png
                                                ground_truth/Fuzzyball/0044_019_04_15_mask.png

A quarter of the normal tiles tests. Where InCTRL's split depends on the order in which a disk lists its
folders, it is sorted by name here. Source: InCTRL (arXiv 2403.06495).

KolektorSDD: of an image of height h the tiles are the rows [0, h//3), [h//3, 2h//3) and [2h//3, h). A tile is
anomalous if its label has a pixel above 0.

AITEX: a tile is 256 columns wide, the last one perhaps narrower. Of the strips with defects, the tiles
without defects are dropped. The folder of a defect follows from the second number of the name. Masks in
several files (`_mask1`, `_mask2`), at which InCTRL's converter stops, are united.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool

from adcommon.data.messages import shorten
from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import (
    Box,
    Listing,
    decode_all,
    find_level,
    quarter,
    refuse_missing,
    unnested,
    write_tile,
    write_truth,
)
from adcommon.data.sources.layouts import subfolders
from adcommon.errors import BadValue, MaskMissing, MaskSizeMismatch
from adcommon.io.images import image_size, list_images, open_mask

logger = logging.getLogger(__name__)

SIDE = 256
"""Width of a tile of AITEX and height of a strip, pixels."""

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
_LABEL = "_label"


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of an image."""

    image: Path
    name: str
    """Of the file it becomes, without suffix: "kos01_Part0_2"."""
    box: Box
    mask: Bool[np.ndarray, "rows columns"] | None = None
    """None: normal."""
    defect: str = "defect"
    """Folder of the tile, where it is anomalous."""


@dataclass(frozen=True, kw_only=True)
class Ksdd:
    """Every image cut in three, with the split of InCTRL."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has kos01, kos02, ..."""
        root = find_level(source, "kos[0-9]*/Part*", "ksdd")
        images = [
            image
            for folder in subfolders(root)
            if folder.name.startswith("kos")
            for image in list_images(folder)
            if not image.stem.endswith(_LABEL)
        ]
        listing = Listing(root)
        labels = [listing.find(f"{image.parent.name}/{image.stem}{_LABEL}.bmp") for image in images]
        refuse_missing(listing.missing, 2 * len(images), "Unpack the archive again.")
        pairs = [(image, label) for image, label in zip(images, labels, strict=True) if label is not None]
        tiles = [tile for thirds in decode_all(_cut, pairs, "reading labels") for tile in thirds]
        notes = (
            "order: by name (folder, image, tile); InCTRL's is that of the disk",
            "tiles of one part may be in training and test, as in InCTRL",
        )
        return Plan("ksdd", root, target, _steps("SDD", tiles), notes=notes)


@dataclass(frozen=True, kw_only=True)
class Aitex:
    """Strips cut into squares, with the split of InCTRL."""

    missing_mask: Literal["error", "skip"] = "skip"
    """What becomes of an image with defects that has no mask, as 0100_025_08 of the archive."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; each of the three folders may be nested once in a folder of the same name."""
        root = find_level(source, "NODefect_images", "aitex")
        tiles = [
            Tile(image, f"{fabric.name}_{image.stem}_{number}", box)
            for fabric in subfolders(_folder(root, "NODefect_images"))
            for image in list_images(fabric)
            for number, box in enumerate(_boxes(image)[:_NORMAL_TILES])
        ]
        images = list_images(_folder(root, "Defect_images"))
        masks, missing = self._masks(images, _folder(root, "Mask_images"))
        unions = decode_all(_union, list(masks.items()), "reading masks")
        for image, united in zip(masks, unions, strict=True):
            defect = _defect(image)
            for number, box in enumerate(_boxes(image)):
                mask = united[:, box[0] : box[2]]
                if mask.any():
                    tiles.append(Tile(image, f"{image.stem}_{number}", box, mask, defect))
        notes = ["order: by name (fabric, strip, tile); InCTRL's is that of the disk"]
        notes += [f"left out, because it has no mask: {image.name}" for image in missing]
        narrow = [image.name for image in masks if image_size(image)[0] % SIDE]
        if narrow:
            notes.append(f"the last tile is narrower than {SIDE} pixels: {shorten(narrow)}")
        return Plan("aitex", root, target, _steps("AITEX", tiles), asdict(self), tuple(notes))

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


def _steps(category: str, tiles: Sequence[Tile]) -> list[Step]:
    """The files of all tiles and of their masks, a quarter of the normal tiles for the test."""
    parts = quarter([tile for tile in tiles if tile.mask is None])
    placed = [(folder, tile) for folder, normal in parts.items() for tile in normal]
    placed += [(f"test/{tile.defect}", tile) for tile in tiles if tile.mask is not None]
    steps = []
    for folder, tile in placed:
        write = partial(write_tile, box=tile.box)
        steps.append(Step(f"{category}/{folder}/{tile.name}.png", tile.image, write))
        if tile.mask is not None:
            truth = f"{category}/ground_truth/{tile.defect}/{tile.name}_mask.png"
            steps.append(Step(truth, tile.image, partial(write_truth, mask=tile.mask)))
    return sorted(steps, key=lambda step: (step.source, step.target))


def _cut(pair: tuple[Path, Path]) -> list[Tile]:
    """The three tiles of an image of KolektorSDD, from top to bottom."""
    image, label = pair
    mask = open_mask(label)
    height, width = mask.shape
    if image_size(image) != (width, height):
        size = "x".join(map(str, image_size(image)))
        raise MaskSizeMismatch(f"{image} is {size}, its label {label} is {width}x{height} (width x height)")
    tiles = []
    for number, (top, bottom) in enumerate(pairwise((0, height // 3, 2 * height // 3, height))):
        part = mask[top:bottom]
        name = f"{image.parent.name}_{image.stem}_{number}"
        tiles.append(Tile(image, name, (0, top, width, bottom), part if part.any() else None))
    return tiles


def _folder(root: Path, name: str) -> Path:
    """A folder of AITEX's download."""
    return unnested(find_level(root, name, "aitex") / name)


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
    """The union of the masks of one strip."""
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
