"""Pictures of anomaly maps: colours, overlays, contours. All pixels are RGB, 8 bits a channel.

Two kinds: those of the reference implementations, whose colours and rounding are reproduced to the last grey
level and which are arrays (`jet`, `heat_map`, `reference_overlay`), and those for reading, which are Pillow's
images from the first to the last step, so that nothing is copied in between (`glow`, `overlay`, `contour`).
"""

import errno
import io
import os
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from adcommon.io.files import atomic_write
from adcommon.io.images import bands

TRUTH, FOUND = (0, 255, 0), (0, 230, 255)
"""Colours of outlines: of labelled defects, and of what a model finds."""
_END_OF_JPEG = b"\xff\xd9"
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


def glow(indices: UInt8[np.ndarray, "height width"]) -> Image.Image:
    """Black, purple, orange, pale yellow: brighter is more anomalous, also in print and to the colour-blind.

    Source: eight colours of the map "inferno" by Smith and van der Walt (public domain), joined linearly.
    """
    picture = Image.fromarray(indices)
    picture.putpalette(_glow_palette())
    return picture.convert("RGB")


@cache
def _glow_palette() -> bytes:
    """The 256 colours of `glow`, 3 bytes each."""
    places = np.linspace(0, 255, len(_GLOW))
    channels = [np.interp(np.arange(256), places, channel) for channel in np.array(_GLOW).T]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes()


def heat_map(
    anomaly_map: Float[np.ndarray, "height width"], low: float | None = None, high: float | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture of an anomaly map in the colours of `jet`; see `steps`."""
    return jet(steps(anomaly_map.astype(np.float64), low, high))


def steps(
    anomaly_map: Float[np.ndarray, "height width"], low: float | None = None, high: float | None = None
) -> UInt8[np.ndarray, "height width"]:
    """An anomaly map in 256 steps of colour: `low` becomes the first, `high` the last, truncated.

    By default they are the map's own minimum and maximum, so that colours do not compare between images; give
    both to make them compare. A constant map is all first step.
    """
    low = float(anomaly_map.min()) if low is None else low
    high = float(anomaly_map.max()) if high is None else high
    found = np.empty(anomaly_map.shape, np.uint8)
    for band in bands(*anomaly_map.shape):
        values = anomaly_map[band] - low
        values /= high - low if high > low else 1.0
        values *= 255
        found[band] = values.clip(0, 255, out=values)
    return found


def reference_overlay(
    image: UInt8[np.ndarray, "height width 3"], heat: UInt8[np.ndarray, "height width 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Image plus heat map, scaled so that the largest value is 255.

    Channels are not mixed, so the rule holds in any channel order. Float32 and truncation decide grey levels.
    Source: the pictures of ReContrast's reference implementation.
    """
    total = heat.astype(np.float32) / 255 + image.astype(np.float32) / 255
    return (255 * (total / max(total.max(), np.finfo(np.float32).tiny))).astype(np.uint8)


def overlay(image: Image.Image, heat: Image.Image) -> Image.Image:
    """The heat map over the image, grey or RGB, half of each, rounded down."""
    return Image.blend(image if image.mode == "RGB" else image.convert("RGB"), heat, 0.5)


def contour(
    image: Image.Image, mask: Bool[np.ndarray, "height width"], colour: tuple[int, int, int] = TRUTH
) -> None:
    """Draw a mask's inner border on an RGB image, 1 pixel wide for every 256 of the shorter side."""
    if mask.any() and not mask.all():
        rows, columns, border = _border(mask)
        image.paste(colour, (columns.start, rows.start), Image.fromarray(border))


def outline_png(mask: Bool[np.ndarray, "height width"]) -> bytes:
    """The content of a PNG file to lay over the image: a mask's inner border in `TRUTH`, clear elsewhere."""
    file, whole = io.BytesIO(), np.zeros(mask.shape, np.uint8)
    if mask.any():
        rows, columns, border = _border(mask)
        whole[rows, columns] = border
    image = Image.fromarray(whole)
    image.putpalette([0, 0, 0, *TRUTH])
    image.save(file, format="PNG", bits=1, transparency=0)
    return file.getvalue()


def _border(mask: Bool[np.ndarray, "height width"]) -> tuple[slice, slice, Bool[np.ndarray, "rows columns"]]:
    """The rows and columns that a mask lies in, and its inner border there; it must lie somewhere."""
    width = _line_width(mask.shape)
    rows, columns = (
        slice(max(0, places[0] - width), places[-1] + 1 + width)
        for places in (np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0)))
    )
    inner = np.pad(mask[rows, columns], width, mode="edge")
    joined, window = 1, 2 * width + 1
    while joined < window:  # so many neighbours are one by now, both ways; twice as many at the next turn
        step = min(joined, window - joined)
        inner = inner[:-step] & inner[step:]
        inner = inner[:, :-step] & inner[:, step:]
        joined += step
    return rows, columns, mask[rows, columns] & ~inner


def _line_width(size: tuple[int, ...]) -> int:
    return max(1, round(min(size) / 256))


def write_jpeg(path: Path, image: Image.Image, *, quality: int = 85, sync: bool = False) -> None:
    """Write a JPEG file as `atomic_write`: an eighth of a WebP file's time, three to five times its size.

    Large pictures keep colours at half of their resolution, as cameras do, in two thirds of the time; in
    small ones the lines of `contour` are 1 pixel wide, and would lose theirs.
    """
    subsampling = "4:4:4" if _line_width(image.size) == 1 else "4:2:0"

    def save(file: BinaryIO) -> None:  # only what goes straight into a file lets other threads run meanwhile
        # Without the comment that a photograph may have, which Pillow would hand on.
        image.save(file, format="JPEG", quality=quality, subsampling=subsampling, comment=b"")
        file.seek(-len(_END_OF_JPEG), os.SEEK_END)
        if file.read() != _END_OF_JPEG:  # Pillow does not look whether the disk took all
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    atomic_write(path, save, sync=sync)


def webp(image: Image.Image) -> bytes:
    """The content of a WebP file, the smallest."""
    file = io.BytesIO()
    # Method 2 takes twice as long and saves 6 %.
    image.save(file, format="WEBP", quality=80, method=0)
    return file.getvalue()


def png(picture: Image.Image | UInt8[np.ndarray, "height width 3"]) -> bytes:
    """The content of a PNG file."""
    file = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(file, format="PNG")
    return file.getvalue()
