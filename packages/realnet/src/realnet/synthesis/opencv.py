"""What RealNet takes from OpenCV, to the last grey level, as array code; pixels are RGB, 8 bits a channel."""

import numpy as np
from jaxtyping import Int64, UInt8

_LEVELS = 256
_WEIGHT_BITS = 11  # of the weights of an interpolation, in either direction


def grey(images: UInt8[np.ndarray, "*batch height width 3"]) -> UInt8[np.ndarray, "*batch height width"]:
    """Luma as OpenCV converts RGB to grey; Pillow's differs by a level in places.

    >>> grey(np.array([[[255, 0, 0], [10, 20, 30]]], dtype=np.uint8)).tolist()
    [[76, 18]]
    """
    weights = np.array([9798, 19235, 3735], dtype=np.int32)
    return ((images @ weights + (1 << 14)) >> 15).astype(np.uint8)


def resize(
    image: UInt8[np.ndarray, "height width channels"], size: tuple[int, int]
) -> UInt8[np.ndarray, "new_height new_width channels"]:
    """Bilinear, without anti-aliasing, by integer arithmetic; `size` is (height, width).

    Faithful: an image of exactly twice the size on both axes is averaged over squares of four pixels.
    """
    if image.shape[:2] == size:
        return image.copy()
    if image.shape[:2] == (2 * size[0], 2 * size[1]):
        squares = image.reshape(size[0], 2, size[1], 2, -1).sum(axis=(1, 3), dtype=np.uint16)
        return ((squares + 2) >> 2).astype(np.uint8)
    (top, bottom), (upper, lower) = _interpolation(image.shape[0], size[0], border_weights=True)
    (left, right), (near, far) = _interpolation(image.shape[1], size[1], border_weights=False)

    def across(rows: Int64[np.ndarray, " new_height"]) -> np.ndarray:
        taken = image[rows].astype(np.int32)
        return taken[:, left] * near[:, None] + taken[:, right] * far[:, None]

    # Each product loses its low bits before they are added: that is where one grey level is decided.
    above = (upper[:, None, None] * (across(top) >> 4)) >> 16
    below = (lower[:, None, None] * (across(bottom) >> 4)) >> 16
    return ((above + below + 2) >> 2).astype(np.uint8)


def _interpolation(
    old: int, new: int, *, border_weights: bool
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """For each new position along an axis: its two old neighbours, and their weights out of 2048.

    Args:
        border_weights: beyond the first and the last pixel, share the weight between two times the same
            pixel, as happens along the height, where the sum then loses a little to rounding.
    """
    place = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    if not border_weights:
        place = place.clip(0, old - 1)
    first = np.floor(place)
    far = place - first
    one = np.float32(1 << _WEIGHT_BITS)
    weights = [np.rint(part * one).astype(np.int32) for part in (1 - far, far)]
    neighbours = [(first.astype(np.int64) + step).clip(0, old - 1) for step in (0, 1)]
    return (neighbours[0], neighbours[1]), (weights[0], weights[1])


def otsu_threshold(values: UInt8[np.ndarray, "height width"]) -> int:
    """The grey level that separates values into the two classes whose means lie furthest apart.

    The running means are updated as OpenCV does: over a gap in the histogram all levels are equally good, and
    rounding decides between them.
    """
    shares = (_histogram(values) * (1 / values.size)).tolist()
    mean = float(np.arange(_LEVELS) @ _histogram(values)) * (1 / values.size)
    epsilon = float(np.finfo(np.float32).eps)
    below, below_mean, best, threshold = 0.0, 0.0, 0.0, 0
    for level, share in enumerate(shares):
        below_mean *= below
        below += share
        above = 1.0 - below
        if min(below, above) < epsilon or max(below, above) > 1.0 - epsilon:
            continue
        below_mean = (below_mean + level * share) / below
        above_mean = (mean - below * below_mean) / above
        separation = below * above * (below_mean - above_mean) * (below_mean - above_mean)
        if separation > best:
            best, threshold = separation, level
    return threshold


def triangle_threshold(values: UInt8[np.ndarray, "height width"]) -> int:
    """The grey level furthest below the line from the histogram's peak to the end of its longer tail."""
    counts = _histogram(values)
    filled = np.flatnonzero(counts)
    first, last = max(int(filled[0]) - 1, 0), min(int(filled[-1]) + 1, _LEVELS - 1)
    peak = int(counts.argmax())
    mirrored = peak - first < last - peak
    if mirrored:
        counts, first, peak = counts[::-1], _LEVELS - 1 - last, _LEVELS - 1 - peak
    levels = np.arange(first + 1, peak + 1)
    distances = counts[peak] * levels - (peak - first) * counts[levels]
    threshold = first if distances.max(initial=0) <= 0 else int(levels[distances.argmax()])
    return _LEVELS - threshold if mirrored else threshold - 1


def _histogram(values: UInt8[np.ndarray, "height width"]) -> Int64[np.ndarray, " levels"]:
    return np.bincount(values.reshape(-1), minlength=_LEVELS)
