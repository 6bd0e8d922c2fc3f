"""The pictures of an image and its anomaly map, in the image's own proportions, as pages show them."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from adcommon.data.preprocess import Preprocess
from adcommon.io.files import atomic_write
from adcommon.io.images import open_mask, picture
from adcommon.results.gallery import ScoredImage
from adcommon.results.picture_names import LAYERS
from adcommon.results.pictures import FOUND, contour, glow, outline_png, overlay, steps, write_jpeg
from adcommon.types.records import Record

Colours = tuple[float, float | None, float]
"""Where maps are dark, outlined and brightest; see `Threshold.colours`. None: nothing is outlined."""
SMALL_SIDE, SMALL_QUALITY = 320, 60
"""Longest side of a picture among thousands, pixels, and how well it is kept: 4 to 15 KB of ELPV's cells."""
_SUFFIXES = {"plain": ".jpg", "small": ".jpg", "truth": ".png"}
"""Of the layers."""


def draw(
    source: Path | bytes,
    network_map: Float[np.ndarray, "map_height map_width"],
    preprocess: Preprocess,
    colours: Colours | None,
    *,
    longest_side: int,
) -> tuple[Image.Image, Image.Image]:
    """The image alone, and its map over it, in its own colours where there are none that all images share.

    Args:
        source: the image's file, which is read again, or what that holds.
        network_map: at the size of the network's input, or joined of tiles.
        longest_side: of the pictures, pixels; larger images are drawn smaller.

    Raises:
        UnreadableImage: the image is gone.
    """
    image = alone(source, preprocess, longest_side=longest_side)
    return image, covered(image, network_map, preprocess, colours)


def covered(
    image: Image.Image,
    network_map: Float[np.ndarray, "map_height map_width"],
    preprocess: Preprocess,
    colours: Colours | None,
) -> Image.Image:
    """The map over an image that `alone` gave."""
    dark, outlined, bright = colours or (float(network_map.min()), None, float(network_map.max()))
    shade = np.empty((image.height, image.width), np.uint8)
    found = np.zeros(shade.shape, bool)
    for rows, values in preprocess.restored_bands(network_map, *shade.shape):
        shade[rows] = steps(values, dark, bright if bright > dark else math.inf)
        if outlined is not None:
            found[rows] = values > outlined
    drawn = overlay(image, glow(shade))
    contour(drawn, found, FOUND)
    return drawn


def alone(source: Path | bytes, preprocess: Preprocess, *, longest_side: int) -> Image.Image:
    """An image, grey or RGB, the way up that its maps have."""
    with picture(source, upright=preprocess.upright, white=preprocess.white) as image:
        return reduced(image, longest_side)


def reduced(image: Image.Image, longest_side: int) -> Image.Image:
    """An image that is decoded, and lies as it should: grey or RGB, and itself if it is small enough."""
    with picture(image) as ready:
        if (longest := max(ready.size)) <= longest_side:
            return ready
        scale = longest_side / longest
        width, height = (max(1, round(scale * side)) for side in ready.size)
        return ready.resize((width, height), reducing_gap=2)


def truth_of(
    record: Record, preprocess: Preprocess, height: int, width: int
) -> Bool[np.ndarray, "{height} {width}"] | None:
    """The mask of an image as it lies on a picture of this size, small regions too; None: there is none.

    Raises:
        MaskSizeMismatch: it has not the size of its image.
    """
    if record.mask is None:
        return None
    mask = preprocess.as_loaded(open_mask(record.mask), record)
    grey = Image.fromarray(np.uint8(255) * mask)
    return np.asarray(grey.resize((width, height), Image.Resampling.BOX)) > 0


def write_pictures(
    folder: Path,
    name: Path,
    image: Image.Image,
    drawn: Image.Image,
    truth: Bool[np.ndarray, "height width"] | None,
) -> None:
    """Write the map over its image as `folder`/`name`, a JPEG file, after its layers for the page.

    These are the image alone, a small picture, and the outline of the truth where there is one.
    """
    small = drawn.reduce(-(-max(drawn.size) // SMALL_SIDE))  # by a whole number, which is soonest done
    write_jpeg(folder / _layer("plain", name), image)
    write_jpeg(folder / _layer("small", name), small, quality=SMALL_QUALITY)
    if truth is not None:
        atomic_write(folder / _layer("truth", name), outline_png(truth), sync=False)
    write_jpeg(folder / name, drawn)


def on_page(
    folder: Path,
    name: Path,
    shown: str,
    score: float,
    *,
    anomalous: bool | None = None,
    truth: bool = False,
    unfamiliar: str | None = None,
) -> ScoredImage:
    """An image with the pictures that `write_pictures` made of it, if it did.

    Args:
        shown: name of the image.
        anomalous: None: nobody knows.
        truth: whether its truth was outlined.
        unfamiliar: why it is not of the kind that the model knows; None: it is.
    """
    if not (folder / name).exists():
        return ScoredImage(shown, score, anomalous, None, unfamiliar=unfamiliar)
    small, plain, outline = (_layer(kind, name).as_posix() for kind in ("small", "plain", "truth"))
    return ScoredImage(
        shown, score, anomalous, name.as_posix(), small, plain, outline if truth else None, unfamiliar
    )


def _layer(kind: str, name: Path) -> Path:
    return LAYERS / kind / name.with_suffix(_SUFFIXES[kind])
