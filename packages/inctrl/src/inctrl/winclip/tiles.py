"""How WinCLIP cuts an image that is not square: square tiles, each then resized to the network's input."""

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from adcommon.io.images import open_image

Box = tuple[int, int, int, int]
"""Left, top, right, bottom; pixels."""
Tiles = Literal["reference", "along"]
"""Along the longer side; the reference cuts along x always, also where the image is higher than wide."""

STRIDE = 0.8
"""Distance of two tiles, as a share of their side."""


def tile_boxes(width: int, height: int, tiles: Tiles = "along") -> list[Box]:
    """The tiles of an image, none where it is square.

    The last one ends with the image; it often comes twice, and then counts twice.
    """
    side, length = min(width, height), max(width, height)
    if side == length:
        return []
    places = range(0, length, int(STRIDE * side))
    starts = [place if place + side < length else length - side for place in places]
    if height > width and tiles == "along":
        return [(0, place, side, place + side) for place in starts]
    return [(place, 0, place + side, side) for place in starts]


def cut(
    path: Path, size: int, tiles: Tiles = "along"
) -> tuple[UInt8[np.ndarray, "tiles size size 3"], list[Box]]:
    """The tiles of an image file at the network's input size, bicubic, and where they lie.

    Colours are converted after the resize, as in the reference: a palette is resized by nearest neighbour.
    """
    image = open_image(path, late_rgb=True)
    boxes = tile_boxes(*image.size, tiles) or [(0, 0, *image.size)]
    pixels = [
        np.asarray(image.crop(box).resize((size, size), Image.Resampling.BICUBIC).convert("RGB"))
        for box in boxes
    ]
    return np.stack(pixels), boxes
