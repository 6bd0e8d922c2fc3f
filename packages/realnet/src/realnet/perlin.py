"""Shapes of synthetic anomalies: thresholded Perlin noise, turned at random; section 3.1 of the paper.

A batch is made by few array operations although every image has its own grid: noise is a product of what
happens along rows and along columns, and only pixels near noise above the threshold are interpolated when
it is turned.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int32

from adcommon.errors import BadValue

THRESHOLD = 0.5
"""Noise above it is anomalous; the reference's constant."""
MAX_TURN = 90.0
"""Degrees by which noise is turned at most, either way."""

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
                f"perlin_scale is {self.below}: grids of {2 ** (self.below - 1)} cells do not divide "
                f"images of {size}x{size} pixels; expected at most {usable} at this size"
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
    return turned_mask(perlin_noise(grids, (size, size)), degrees)


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
    noise: Float64[np.ndarray, "batch height width"], degrees: Float[np.ndarray, " batch"]
) -> Float64[np.ndarray, "batch height width"]:
    """Each image turned about its centre, bilinearly, with zeros from outside.

    Source: the arithmetic of OpenCV's `warpAffine`, which samples on a grid of 1/32 pixel.
    """
    origins = _origins(degrees, noise.shape[1:])
    places = _touched(np.ones(noise.shape, dtype=bool), origins)
    values = np.zeros(noise.shape)
    values.reshape(-1)[places] = _sampled(noise, places, origins)
    return values


def turned_mask(
    noise: Float64[np.ndarray, "batch height width"],
    degrees: Float[np.ndarray, " batch"],
    threshold: float = THRESHOLD,
) -> Bool[np.ndarray, "batch height width"]:
    """Where `turned` noise exceeds a threshold, which is not negative.

    A weighted mean exceeds it only if one of its four values does; only there it is computed.
    """
    origins = _origins(degrees, noise.shape[1:])
    places = _touched(noise > threshold, origins)
    mask = np.zeros(noise.shape, dtype=bool)
    mask.reshape(-1)[places] = _sampled(noise, places, origins) > threshold
    return mask


@dataclass(frozen=True)
class _Origins:
    """Where turned pixels come from: for x and for y, the sum of a row's and a column's part.

    In 1/1024 pixels; half a step of the sampling grid is added, so that shifts to the right round.
    """

    rows: dict[str, Int32[np.ndarray, "batch height"]]
    columns: dict[str, Int32[np.ndarray, "batch width"]]

    def pixels(self, axis: str, margin: int) -> Int32[np.ndarray, "batch height width"]:
        """Whole pixels along an axis, counted from `margin` pixels outside of the image."""
        shifted = self.rows[axis] + np.int32(margin << _SCALE)
        total = shifted[:, :, None] + self.columns[axis][:, None]
        total >>= _SCALE
        return total

    def steps(
        self, axis: str, image: np.ndarray, row: np.ndarray, column: np.ndarray
    ) -> Int32[np.ndarray, " pixels"]:
        """Steps of the sampling grid along an axis, at some pixels."""
        total = self.rows[axis][image, row] + self.columns[axis][image, column]
        return total >> (_SCALE - _SUBPIXELS)


def _origins(degrees: Float[np.ndarray, " batch"], size: tuple[int, int]) -> _Origins:
    """The inverse of the rotation about the centre, rounded as OpenCV rounds it."""
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
    y, x, one = np.arange(height), np.arange(width), 1 << _SCALE
    rows = {"x": -sine * y + back_x, "y": cosine * y + back_y}
    columns = {"x": cosine * x, "y": sine * x}
    half_step = 1 << (_SCALE - _SUBPIXELS - 1)
    return _Origins(
        {axis: np.rint(part * one).astype(np.int32) + np.int32(half_step) for axis, part in rows.items()},
        {axis: np.rint(part * one).astype(np.int32) for axis, part in columns.items()},
    )


def _touched(flags: Bool[np.ndarray, "batch height width"], origins: _Origins) -> Int[np.ndarray, " pixels"]:
    """The turned pixels that have a flagged one among their four sources, as positions in the flat batch."""
    count, height, width = flags.shape
    margin = math.ceil((math.hypot(height, width) - min(height, width)) / 2) + 2
    near = np.zeros((count, height + 2 * margin, width + 2 * margin), dtype=bool)
    for down in (0, 1):
        for right in (0, 1):
            near[:, margin - down :, margin - right :][:, :height, :width] |= flags
    sources = origins.pixels("y", margin)
    sources *= near.shape[2]
    sources += origins.pixels("x", margin)
    pairs = zip(near.reshape(count, -1), sources, strict=True)
    return np.flatnonzero(np.stack([flat.take(places) for flat, places in pairs]))


def _sampled(
    noise: Float64[np.ndarray, "batch height width"], places: Int[np.ndarray, " pixels"], origins: _Origins
) -> Float64[np.ndarray, " pixels"]:
    """The turned noise at places with at least one source inside the image."""
    framed = np.pad(noise, ((0, 0), (1, 1), (1, 1)))
    _, rows, columns = framed.shape
    pixel = np.unravel_index(places, noise.shape)
    x, y = origins.steps("x", *pixel), origins.steps("y", *pixel)
    corner = (pixel[0] * rows + (y >> _SUBPIXELS) + 1) * columns + (x >> _SUBPIXELS) + 1
    steps = 1 << _SUBPIXELS
    right, down = (x & (steps - 1)) / steps, (y & (steps - 1)) / steps
    left = 1 - right
    above = framed.take(corner) * left + framed.take(corner + 1) * right
    below = framed.take(corner + columns) * left + framed.take(corner + columns + 1) * right
    return above * (1 - down) + below * down
