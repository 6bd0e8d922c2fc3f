"""Blending a source into a normal image under a mask; equation (5) of the paper."""

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from scipy.ndimage import uniform_filter

WINDOW = 9
"""Side of the square over which a change is averaged, pixels."""


def blend(
    images: UInt8[np.ndarray, "batch height width 3"],
    sources: UInt8[np.ndarray, "batch height width 3"],
    masks: Bool[np.ndarray, "batch height width"],
    opacity: Float64[np.ndarray, " batch"],
) -> UInt8[np.ndarray, "batch height width 3"]:
    """(1 - M) I + (1 - beta) M I + beta M S, truncated to whole grey levels; outside the mask I itself.

    Args:
        opacity: beta, in [0, 1]: 1 shows the source alone.
    """
    places = np.flatnonzero(masks)
    beta = opacity[places // masks[0].size][:, None]
    normal, source = (pixels.reshape(-1, 3)[places] for pixels in (images, sources))
    blended = images.copy()
    # In double precision and in this order: truncation turns a last bit into a grey level.
    blended.reshape(-1, 3)[places] = (1 - beta) * normal + beta * source
    return blended


def visible(
    images: UInt8[np.ndarray, "batch height width 3"],
    blended: UInt8[np.ndarray, "batch height width 3"],
    least: float,
) -> Bool[np.ndarray, "batch height width"]:
    """Where two versions of an image differ: what looks the same as before is no anomaly.

    Args:
        least: mean difference of the colours over a square of `WINDOW` pixels, grey levels.
    """
    change = np.abs(images.astype(np.float32) - blended).mean(axis=3)
    return uniform_filter(change, size=(0, WINDOW, WINDOW)) >= least
