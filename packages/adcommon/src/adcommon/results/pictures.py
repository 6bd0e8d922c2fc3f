"""Pictures of anomaly maps: colours, overlays, contours, panels. All pixels are RGB, 8 bits a channel.

Two kinds: those of the reference implementations, whose colours and rounding are reproduced to the last grey
level (`jet`, `heat_map`, `reference_overlay`), and those for reading (`glow`, `overlay`, `contour`, `panel`).
"""

import io
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFilter, ImageFont

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
    places = np.linspace(0, 255, len(_GLOW))
    channels = [np.interp(np.arange(256), places, channel) for channel in np.array(_GLOW).T]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)[indices]


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
    span = high - low if high > low else 1.0
    return colours(((values - low) / span * 255).clip(0, 255).astype(np.uint8))


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
    """The heat map over the image, half of each."""
    return np.rint(0.5 * image.astype(np.float32) + 0.5 * heat.astype(np.float32)).astype(np.uint8)


def contour(
    image: UInt8[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "height width"],
    colour: tuple[int, int, int] = TRUTH,
) -> UInt8[np.ndarray, "height width 3"]:
    """The image with a mask's inner border in a colour, 1 pixel wide for every 256 of the shorter side."""
    width = max(1, round(min(mask.shape) / 256))
    inside = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MinFilter(2 * width + 1))
    drawn = image.copy()
    drawn[mask & (np.asarray(inside) == 0)] = colour
    return drawn


def panel(
    image: UInt8[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "height width"] | None,
    anomaly_map: Float[np.ndarray, "height width"],
    *,
    score: float | None = None,
    threshold: float | None = None,
    low: float | None = None,
    high: float | None = None,
) -> UInt8[np.ndarray, "panel_height panel_width 3"]:
    """Side by side, with titles: image | truth, if there is a mask | anomaly map | overlay with contours.

    On the overlay the truth is outlined in green; above it stand image score and the `threshold` it was
    compared with. The map must lie on the image's pixels, as `Preprocess.restore` returns it; `low` and
    `high` are the ends of its colours, see `heat_map`.
    """
    heat = heat_map(anomaly_map, low, high, colours=glow)
    marked = overlay(image, heat)
    tiles = [("image", image), ("map", heat)]
    if mask is not None:
        marked = contour(marked, mask)
        tiles.insert(1, ("truth", np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)))
    title = "overlay" if score is None else f"score {score:.4g}"
    if score is not None and threshold is not None:
        title += f" {'>' if score > threshold else '<='} {threshold:.4g}"
    return _side_by_side([*tiles, (title, marked)])


def webp(pixels: UInt8[np.ndarray, "height width 3"], *, longest_side: int | None = None) -> bytes:
    """The content of a WebP file, a tenth of a PNG's size; larger pictures are made as small as is said."""
    file, image = io.BytesIO(), Image.fromarray(pixels)
    if longest_side is not None:
        image.thumbnail((longest_side, longest_side))
    image.save(file, format="WEBP", quality=80)
    return file.getvalue()


def png(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """The content of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def _side_by_side(
    tiles: Sequence[tuple[str, UInt8[np.ndarray, "height width 3"]]],
) -> UInt8[np.ndarray, "panel_height panel_width 3"]:
    """Pictures of one size in a row on white, each under its title, which may be wider than the picture."""
    height, width, _ = tiles[0][1].shape
    text_px = max(10, min(height, width) // 16)
    gap, top = text_px // 2, 2 * text_px
    font = ImageFont.load_default(size=text_px)
    columns = [max(width, math.ceil(font.getlength(title))) for title, _ in tiles]
    sheet = Image.new("RGB", (sum(columns) + gap * (len(tiles) - 1), top + height), "white")
    pen, left = ImageDraw.Draw(sheet), 0
    for (title, pixels), column in zip(tiles, columns, strict=True):
        pen.text((left, text_px // 2), title, fill="black", font=font)
        sheet.paste(Image.fromarray(pixels), (left, top))
        left += column + gap
    return np.asarray(sheet)
