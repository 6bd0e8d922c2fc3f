"""Pictures of anomaly maps: colours, overlays, contours. All pixels are RGB, 8 bits a channel.

Two kinds: those of the reference implementations, whose colours and rounding are reproduced to the last grey
level (`jet`, `heat_map`, `reference_overlay`), and those for reading (`glow`, `overlay`, `contour`).
"""

import io
from collections.abc import Callable
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

Colours = Callable[[UInt8[np.ndarray, "*shape"]], UInt8[np.ndarray, "*shape 3"]]
"""A colour map: from 0 (least anomalous) to 255."""
TRUTH, FOUND = (0, 255, 0), (0, 230, 255)
"""Colours of outlines: of labelled defects, and of what a model finds."""
_GLOW = (
    *((0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99)),
    *((212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164)),
)


def jet(indices: UInt8[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """OpenCV's colour map JET, exactly, but as RGB (OpenCV itself gives BGR): blue, cyan, yellow, red.

    >>> jet(np.array([0, 128, 255], dtype=np.uint8)).tolist()
    [[0, 0, 128], [130, 255, 126], [128, 0, 0]]
    """
    step = np.arange(256)
    red = np.minimum(4 * step - 382, 1148 - 4 * step)
    green = np.minimum(4 * step - 128, 892 - 4 * step)
    blue = np.minimum(4 * step + 128, 638 - 4 * step)
    blue[159] = 1  # OpenCV rounds this entry down, 1.5 in exact arithmetic, and its mirror image up
    return np.stack([red, green, blue], axis=1).clip(0, 255).astype(np.uint8)[indices]


def glow(indices: UInt8[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Black, purple, orange, pale yellow: brighter is more anomalous, also in print and to the colour-blind.

    Source: eight colours of the map "inferno" by Smith and van der Walt (public domain), joined linearly.
    """
    picture = Image.fromarray(indices.reshape(len(indices), -1))
    picture.putpalette(_glow_palette())  # half of the time that NumPy takes to look them up
    return np.asarray(picture.convert("RGB")).reshape(*indices.shape, 3)


@cache
def _glow_palette() -> bytes:
    """The 256 colours of `glow`, 3 bytes each."""
    places = np.linspace(0, 255, len(_GLOW))
    channels = [np.interp(np.arange(256), places, channel) for channel in np.array(_GLOW).T]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes()


def heat_map(
    anomaly_map: Float[np.ndarray, "height width"],
    low: float | None = None,
    high: float | None = None,
    *,
    colours: Colours = jet,
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture of an anomaly map: `low` becomes the first colour, `high` the last, truncated to 256 steps.

    By default they are the map's own minimum and maximum, so that colours do not compare between images; give
    both to make them compare. A constant map is all first colour.
    """
    values = anomaly_map.astype(np.float64)
    low = values.min() if low is None else low
    high = values.max() if high is None else high
    values -= low
    values /= high - low if high > low else 1.0
    values *= 255
    return colours(values.clip(0, 255, out=values).astype(np.uint8))


def reference_overlay(
    image: UInt8[np.ndarray, "height width 3"], heat: UInt8[np.ndarray, "height width 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Image plus heat map, scaled so that the largest value is 255.

    Channels are not mixed, so the rule holds in any channel order. Float32 and truncation decide grey levels.
    Source: the pictures of ReContrast's reference implementation.
    """
    total = heat.astype(np.float32) / 255 + image.astype(np.float32) / 255
    return (255 * (total / max(total.max(), np.finfo(np.float32).tiny))).astype(np.uint8)


def overlay(
    image: UInt8[np.ndarray, "height width 3"], heat: UInt8[np.ndarray, "height width 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """The heat map over the image, half of each; halves are rounded to the even neighbour."""
    other = image ^ heat
    half = (image & heat) + (other >> 1)  # rounded down, without a ninth bit
    return half + (other & half & 1)


def contour(
    image: UInt8[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "height width"],
    colour: tuple[int, int, int] = TRUTH,
) -> None:
    """Draw a mask's inner border on an image, 1 pixel wide for every 256 of the shorter side."""
    image.reshape(-1, 3)[np.flatnonzero(_border(mask))] = colour


def outline_png(mask: Bool[np.ndarray, "height width"]) -> bytes:
    """The content of a PNG file to lay over the image: a mask's inner border in `TRUTH`, clear elsewhere."""
    file, image = io.BytesIO(), Image.fromarray(_border(mask).astype(np.uint8))
    image.putpalette([0, 0, 0, *TRUTH])
    image.save(file, format="PNG", bits=1, transparency=0)
    return file.getvalue()


def _border(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    border = np.zeros_like(mask)
    if mask.any():
        width = max(1, round(min(mask.shape) / 256))
        box = tuple(
            slice(max(0, places[0] - width), places[-1] + 1 + width)
            for places in (np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0)))
        )
        inner = mask[box]
        for _ in range(2):  # along the columns, and, turned, along the rows
            inner = np.pad(inner, ((width, width), (0, 0)), mode="edge")
            joined, window = 1, 2 * width + 1
            while joined < window:  # so many neighbours are one by now; twice as many at the next turn
                step = min(joined, window - joined)
                inner = inner[:-step] & inner[step:]
                joined += step
            inner = inner.T
        border[box] = mask[box] & ~inner
    return border


def jpeg(
    pixels: UInt8[np.ndarray, "height width 3"],
    *,
    photograph: bool = False,
    longest_side: int | None = None,
    quality: int = 85,
) -> bytes:
    """The content of a JPEG file: an eighth of a WebP file's time, and three to five times its size.

    Args:
        photograph: keep colours at half of the resolution, as cameras do, in two thirds of the time; lines
            that are drawn would lose theirs.
        longest_side: larger pictures are made no larger than this, by a whole number, which is soonest done.
    """
    file, image = io.BytesIO(), Image.fromarray(pixels)
    if longest_side is not None:
        image = image.reduce(-(-max(image.size) // longest_side))
    image.save(file, format="JPEG", quality=quality, subsampling="4:2:0" if photograph else "4:4:4")
    return file.getvalue()


def webp(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """The content of a WebP file, the smallest."""
    file = io.BytesIO()
    # Method 2 takes twice as long and saves 6 %.
    Image.fromarray(pixels).save(file, format="WEBP", quality=80, method=0)
    return file.getvalue()


def png(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """The content of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
