"""Shapes of synthetic anomalies: thresholded Perlin noise, turned at random; section 3.1 of the paper.

Few array operations make many masks although every image has its own grid: noise is a product of what
happens along rows and along columns, and only near noise above the threshold are turned pixels interpolated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int, Int32

from adcommon.errors import BadValue

THRESHOLD = 0.5
"""Noise above it is anomalous; the reference's constant."""
MAX_TURN = 90.0
"""Degrees by which noise is turned at most, either way."""

BLOCK_PIXELS = 2 * 256 * 256
"""Pixels whose masks are made together."""

_SUBPIXELS = 5  # bits: OpenCV samples on a grid of 1/32 pixel
_SCALE = 10  # bits: its fixed-point coordinates count 1/1024 pixel

Grid = Float64[np.ndarray, "_ _"]
"""Uniform values in [0, 1), one for the gradient's direction at each corner of each cell."""


@dataclass(frozen=True)
class PerlinScales:
    """The sizes of grids: 2^k cells along each axis, k drawn for each from `least` to `below` - 1."""

    below: int = 6
    """`perlin_scale` of the reference."""
    least: int = 0
    """`min_perlin_scale`."""

    def check(self, size: int) -> None:
        """Refuse scales whose cells would not be whole pixels.

        Raises:
            BadValue: names the largest scale that can be used at this size.
        """
        if not 0 <= self.least < self.below:
            raise BadValue(
                f"min_perlin_scale is {self.least}, perlin_scale {self.below}; "
                "expected 0 <= min_perlin_scale < perlin_scale"
            )
        usable = (size & -size).bit_length()  # 1 + the number of times that 2 divides the size
        if self.below > usable:
            raise BadValue(
                f"perlin_scale is {self.below}: grids of 2^{self.below - 1} cells do not divide "
                f"images of {size}x{size} pixels; expected at most --perlin-scale {usable} at this size"
            )


def draw_masks(
    generator: np.random.Generator, count: int, size: int, scales: PerlinScales
) -> Bool[np.ndarray, "count size size"]:
    """As many masks as asked for, each with its own grid, gradients and turn; True is anomalous.

    A mask may be empty, as the reference's may.
    """
    exponents = generator.integers(scales.least, scales.below, (count, 2))
    grids = [generator.random((2**rows + 1, 2**columns + 1)) for rows, columns in exponents.tolist()]
    degrees = generator.uniform(-MAX_TURN, MAX_TURN, count)
    return perlin_masks(grids, degrees, (size, size))


def perlin_masks(
    grids: Sequence[Grid],
    degrees: Float64[np.ndarray, " batch"],
    size: tuple[int, int],
    threshold: float = THRESHOLD,
) -> Bool[np.ndarray, "batch height width"]:
    """Where noise, turned, exceeds a threshold.

    A few images at a time: arrays of whole batches leave the processor's cache, and memory of that size goes
    back to the system between any two of them, which takes as long as the arithmetic.
    """
    masks = np.empty((len(grids), *size), dtype=bool)
    block = max(1, BLOCK_PIXELS // (size[0] * size[1]))
    for first in range(0, len(grids), block):
        part = slice(first, first + block)
        masks[part] = turned_mask(perlin_noise(grids[part], size), degrees[part], threshold)
    return masks


def perlin_noise(grids: Sequence[Grid], size: tuple[int, int]) -> Float64[np.ndarray, "batch height width"]:
    """Perlin noise of each grid of gradients, in [-1, 1].

    With the local coordinates (u, v) in a cell, the gradients' directions t = 2 pi grid at its corners
    (a, b), and f(x) = 6x^5 - 15x^4 + 10x^3, the value is sqrt(2) times the mean of
    cos(t) (u - a) + sin(t) (v - b) over the corners, weighted with f(u) and f(v).

    Args:
        grids: (1 + cells along the height) x (1 + cells along the width); cells are whole pixels.
    """
    noise = np.empty((len(grids), *size))
    for shape in sorted({grid.shape for grid in grids}):
        members = [index for index, grid in enumerate(grids) if grid.shape == shape]
        noise[members] = _noise_of_one_shape(np.stack([grids[index] for index in members]), size)
    return noise


def _noise_of_one_shape(
    grids: Float64[np.ndarray, "batch rows columns"], size: tuple[int, int]
) -> Float64[np.ndarray, "batch height width"]:
    """First along the height for every column of corners, then, as a matrix product, within each cell."""
    angles = 2 * np.pi * grids
    near_u, far_u, u = _weights(size[0] // (grids.shape[1] - 1))
    near_v, far_v, v = _weights(size[1] // (grids.shape[2] - 1))
    cosines = _between(np.cos(angles), near_u * u, far_u * (u - 1))
    sines = _between(np.sin(angles), near_u, far_u)
    corners = np.stack([cosines[..., :-1], cosines[..., 1:], sines[..., :-1], sines[..., 1:]], axis=-1)
    weights = math.sqrt(2) * np.stack([near_v, far_v, near_v * v, far_v * (v - 1)])
    return (corners.reshape(-1, 4) @ weights).reshape(len(grids), *size)


def _weights(pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of a cell's near and far side at each of its pixels, and the pixels' places in [0, 1)."""
    place = np.arange(pixels) / pixels
    far = place**3 * (place * (6 * place - 15) + 10)
    return 1 - far, far, place


def _between(
    corners: Float64[np.ndarray, "batch rows columns"],
    near: Float64[np.ndarray, " pixels"],
    far: Float64[np.ndarray, " pixels"],
) -> Float64[np.ndarray, "batch cells pixels columns"]:
    """Weighted sums of neighbouring rows of corners, at each pixel row of each cell."""
    return corners[:, :-1, None] * near[:, None] + corners[:, 1:, None] * far[:, None]


def turned(
    noise: Float64[np.ndarray, "batch height width"], degrees: Float64[np.ndarray, " batch"]
) -> Float64[np.ndarray, "batch height width"]:
    """Each image turned about its centre, bilinearly, with zeros from outside.

    Source: the arithmetic of OpenCV's `warpAffine`, which samples on a grid of 1/32 pixel.
    """
    x, y = _sources(degrees, noise.shape[1:])
    places = _touched(np.ones(noise.shape, dtype=bool), x, y)
    values = np.zeros(noise.shape)
    values.reshape(-1)[places] = _sampled(noise, places, x, y)
    return values


def turned_mask(
    noise: Float64[np.ndarray, "batch height width"],
    degrees: Float64[np.ndarray, " batch"],
    threshold: float = THRESHOLD,
) -> Bool[np.ndarray, "batch height width"]:
    """Where `turned` noise exceeds a threshold, which is not negative.

    A weighted mean exceeds it only if one of its four values does; only there it is computed.
    """
    x, y = _sources(degrees, noise.shape[1:])
    places = _touched(noise > threshold, x, y)
    mask = np.zeros(noise.shape, dtype=bool)
    mask.reshape(-1)[places] = _sampled(noise, places, x, y) > threshold
    return mask


FixedPoint = Int32[np.ndarray, "batch height width"]
"""Positions in 1/1024 pixels, plus half a step of the sampling grid, so that cutting off rounds."""


def _sources(degrees: Float64[np.ndarray, " batch"], size: tuple[int, int]) -> tuple[FixedPoint, FixedPoint]:
    """Where each turned pixel comes from: x and y, each the sum of a row's and a column's rounded part."""
    height, width = size
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    cosine, sine = np.cos(np.deg2rad(-degrees))[:, None], np.sin(np.deg2rad(-degrees))[:, None]
    # The matrix and its inverse in OpenCV's order of operations: the last bit decides single pixels.
    offset_x = (1 - cosine) * centre_x - sine * centre_y
    offset_y = sine * centre_x + (1 - cosine) * centre_y
    determinant = 1 / (cosine * cosine + sine * sine)
    cosine, sine = cosine * determinant, sine * determinant
    back_x = -cosine * offset_x + sine * offset_y
    back_y = -sine * offset_x - cosine * offset_y
    y, x = np.arange(height), np.arange(width)
    return (
        _fixed(-sine * y + back_x, half_step=True)[:, :, None] + _fixed(cosine * x)[:, None],
        _fixed(cosine * y + back_y, half_step=True)[:, :, None] + _fixed(sine * x)[:, None],
    )


def _fixed(
    pixels: Float64[np.ndarray, "batch side"], *, half_step: bool = False
) -> Int32[np.ndarray, "batch side"]:
    half = 1 << (_SCALE - _SUBPIXELS - 1) if half_step else 0
    return np.rint(pixels * (1 << _SCALE)).astype(np.int32) + np.int32(half)


def _touched(
    flags: Bool[np.ndarray, "batch height width"], x: FixedPoint, y: FixedPoint
) -> Int[np.ndarray, " places"]:
    """The turned pixels that have a flagged one among their four sources, as positions in the flat batch."""
    count, height, width = flags.shape
    margin = math.ceil((math.hypot(height, width) - min(height, width)) / 2) + 2
    near = np.zeros((count, height + 2 * margin, width + 2 * margin), dtype=bool)
    for down in (0, 1):
        for right in (0, 1):
            near[:, margin - down :, margin - right :][:, :height, :width] |= flags
    source = y >> _SCALE
    source *= near.shape[2]
    source += x >> _SCALE
    source += margin * (near.shape[2] + 1)
    pairs = zip(near.reshape(count, -1), source, strict=True)
    return np.flatnonzero(np.stack([flat.take(index) for flat, index in pairs]))


def _sampled(
    noise: Float64[np.ndarray, "batch height width"],
    places: Int[np.ndarray, " places"],
    x: FixedPoint,
    y: FixedPoint,
) -> Float64[np.ndarray, " places"]:
    """The turned noise at places with at least one source inside the image."""
    framed = np.pad(noise, ((0, 0), (1, 1), (1, 1)))
    columns = framed.shape[2]
    x, y = x.take(places), y.take(places)
    corner = places // noise[0].size * framed[0].size
    corner += ((y >> _SCALE) + 1) * columns + (x >> _SCALE) + 1
    right, down = (_fraction(position) for position in (x, y))
    above = framed.take(corner) * (1 - right) + framed.take(corner + 1) * right
    corner += columns
    below = framed.take(corner) * (1 - right) + framed.take(corner + 1) * right
    return above * (1 - down) + below * down


def _fraction(positions: Int32[np.ndarray, " places"]) -> Float64[np.ndarray, " places"]:
    """Distance from the whole pixel before, in steps of the sampling grid."""
    steps = 1 << _SUBPIXELS
    return (positions >> (_SCALE - _SUBPIXELS) & (steps - 1)) / steps
