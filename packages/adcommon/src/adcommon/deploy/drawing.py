"""The picture of a result: its anomaly map over the image, in the image's own proportions."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from adcommon.data.preprocess import Preprocess
from adcommon.deploy.result import Result
from adcommon.io.images import picture
from adcommon.results.pictures import FOUND, contour, glow, heat_map, overlay

Colours = tuple[float, float, float]
"""Where maps are dark, outlined and brightest; see `Threshold.colours`."""


Pixels = UInt8[np.ndarray, "height width 3"]


def draw(path: Path, result: Result, colours: Colours | None, *, longest_side: int) -> tuple[Pixels, Pixels]:
    """The image alone, and the map over it, in its own colours where there are none that all images share.

    Args:
        path: of the image, which is read again.
        result: has a map.
        longest_side: of the picture, pixels; larger images are drawn smaller.

    Raises:
        UnreadableImage: the image is gone, or another.
    """
    assert result.network_map is not None
    scale = min(1.0, longest_side / max(result.width, result.height))
    width, height = max(1, round(scale * result.width)), max(1, round(scale * result.height))
    anomaly_map = result.preprocess.restore(result.network_map[None], height, width)[0]
    dark, outlined, bright = colours or (None, math.inf, None)
    pixels = _pixels(path, result.preprocess, width, height)
    drawn = overlay(pixels, heat_map(anomaly_map, dark, bright, colours=glow))
    return pixels, contour(drawn, anomaly_map > outlined, FOUND)


def _pixels(
    path: Path, preprocess: Preprocess, width: int, height: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """An image at another size; at its own size it is in memory only here, where others wait for it."""
    with picture(path, upright=preprocess.upright, white=preprocess.white) as image:
        return np.asarray(image.resize((width, height), reducing_gap=2).convert("RGB"))
