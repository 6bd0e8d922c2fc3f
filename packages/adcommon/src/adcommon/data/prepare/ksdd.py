"""KolektorSDD to the layout of MVTec AD under InCTRL's protocol: every image is cut in three.

    <source>                                  <target>/SDD
      kos01/Part0.jpg                           train/good/kos01_Part0_0.png                857
      kos01/Part0_label.bmp                     test/good/kos01_Part0_1.png                 286
                                                test/defect/kos01_Part0_2.png                54
                                                ground_truth/defect/kos01_Part0_2_mask.png

Of an image of height h the tiles are the rows [0, h//3), [h//3, 2h//3) and [2h//3, h). A tile is anomalous
if its label has a pixel above 0. A quarter of the normal tiles tests. Where InCTRL's split depends on the
order in which a disk lists its folders, it is sorted by name here. Source: InCTRL (arXiv 2403.06495).
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import (
    Box,
    Listing,
    decode_all,
    find_level,
    quarter,
    refuse_missing,
    write_tile,
    write_truth,
)
from adcommon.data.sources.layouts import subfolders
from adcommon.errors import MaskSizeMismatch
from adcommon.io.images import image_size, list_images, open_mask

_LABEL = "_label"


@dataclass(frozen=True, slots=True)
class Tile:
    """A third of an image."""

    image: Path
    name: str
    """Of the file it becomes, without suffix: "kos01_Part0_2"."""
    box: Box
    mask: Bool[np.ndarray, "rows columns"] | None
    """None: normal."""


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
        steps = [
            Step(f"SDD/{folder}/{tile.name}.png", tile.image, partial(write_tile, box=tile.box))
            for folder, normal in quarter([tile for tile in tiles if tile.mask is None]).items()
            for tile in normal
        ]
        for tile in tiles:
            if tile.mask is not None:
                write = partial(write_tile, box=tile.box)
                steps.append(Step(f"SDD/test/defect/{tile.name}.png", tile.image, write))
                truth = f"SDD/ground_truth/defect/{tile.name}_mask.png"
                steps.append(Step(truth, tile.image, partial(write_truth, mask=tile.mask)))
        return Plan(
            dataset="ksdd",
            source=root,
            folder=target,
            steps=sorted(steps, key=lambda step: (step.source, step.target)),
            notes=(
                "order: by name (folder, image, tile); InCTRL's is that of the disk",
                "tiles of one part may be in training and test, as in InCTRL",
            ),
        )


def _cut(pair: tuple[Path, Path]) -> list[Tile]:
    """The three tiles of an image, from top to bottom."""
    image, label = pair
    mask = open_mask(label)
    height, width = mask.shape
    if image_size(image) != (width, height):
        size = "x".join(map(str, image_size(image)))
        raise MaskSizeMismatch(f"{image} is {size}, its label {label} is {width}x{height} (width x height)")
    edges = (0, height // 3, 2 * height // 3, height)
    tiles = []
    for number, (top, bottom) in enumerate(pairwise(edges)):
        part = mask[top:bottom]
        name = f"{image.parent.name}_{image.stem}_{number}"
        tiles.append(Tile(image, name, (0, top, width, bottom), part if part.any() else None))
    return tiles
