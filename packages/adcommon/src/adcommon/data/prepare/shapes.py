"""The outlines of COCO JSON as pixels: polygons, runs of pixels, plain or compressed, and boxes.

Source: the format as its owners describe it, https://cocodataset.org/#format-data; the compressed runs as
pycocotools writes them.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64

from adcommon.errors import BadValue
from adcommon.io.schema import shown

Size = tuple[int, int]
"""Width and height, pixels."""
Shape = Float[np.ndarray, "corners 2"] | Int64[np.ndarray, " runs"]
"""Corners of a polygon (column, row; whole numbers lie between pixels), or lengths of runs of pixels that are
outside and inside in turn, column by column."""

_RUN_BASE, _MORE, _SIGN = 48, 0x20, 0x10
_COUNTED_FROM = 3
"""From this run on, a compressed length is the difference to the last but one."""


def read_outline(value: object, size: Size, where: str) -> list[Shape]:
    """The shapes of a `segmentation`, which count together; none if it is empty.

    Raises:
        BadValue: neither polygons nor runs of the image's size; names `where` it stands.
    """
    if not value:
        return []
    if isinstance(value, Mapping):
        return [_runs(value, size, where)]
    if not isinstance(value, list):
        raise BadValue(
            f"{where}: segmentation is {shown(value)}; expected polygons, or an object with counts"
        )
    return [_polygon(points, where) for points in value]


def read_box(value: object, where: str) -> Shape:
    """The corners of a `bbox`: left, top, width, height.

    Raises:
        BadValue: it is none.
    """
    numbers = _numbers(value)
    if len(numbers) != 4:
        raise BadValue(f"{where}: bbox is {shown(value)}; expected [left, top, width, height]")
    left, top, width, height = numbers
    right, bottom = left + width, top + height
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64)


def draw(shapes: Sequence[Shape], size: Size) -> Bool[np.ndarray, "height width"]:
    """The pixels inside of any of the shapes: those whose centre is, and of a thinner one its corners'."""
    width, height = size
    mask = np.zeros((height, width), dtype=bool)
    for shape in shapes:
        if shape.ndim == 2:
            _fill(mask, shape)
        else:
            mask |= np.repeat(np.arange(len(shape)) % 2 == 1, shape).reshape(width, height).T
    return mask


def _fill(mask: Bool[np.ndarray, "height width"], corners: Float[np.ndarray, "corners 2"]) -> None:
    """Mark the pixels of a polygon: a centre is inside if an odd number of edges lies left of it."""
    left, top = np.floor(corners.min(axis=0)).clip(0).astype(int)
    right, bottom = (np.ceil(corners.max(axis=0)) + 1).clip(0).astype(int)
    mask, corners = mask[top:bottom, left:right], corners - (left, top)
    height, width = mask.shape
    crossed = np.zeros((height, width + 1), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        first, last = (math.ceil(y - 0.5) for y in sorted((y0, y1)))
        rows = np.arange(max(first, 0), min(last, height))
        if len(rows):
            columns = np.ceil(x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0) - 0.5)
            crossed[rows, columns.clip(0, width).astype(int)] ^= True
    inside = np.logical_xor.accumulate(crossed, axis=1)[:, :width]
    if not inside.any():
        columns, rows = np.floor(corners).astype(int).T
        seen = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        inside[rows[seen], columns[seen]] = True
    mask |= inside


def _polygon(points: object, where: str) -> Shape:
    numbers = _numbers(points)
    if len(numbers) < 6 or len(numbers) % 2:
        raise BadValue(
            f"{where}: a polygon is {shown(points)}; expected at least three corners, [x, y, x, y, x, y, ...]"
        )
    return np.array(numbers, dtype=np.float64).reshape(-1, 2)


def _runs(value: Mapping[str, object], size: Size, where: str) -> Shape:
    width, height = size
    counts, stated = value.get("counts"), value.get("size")
    if stated != [height, width]:
        raise BadValue(
            f"{where}: segmentation has the size {shown(stated)}; expected the image's, [{height}, {width}]"
        )
    runs = _decompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and 0 <= run <= width * height for run in runs):
        raise BadValue(f"{where}: counts is {shown(counts)}; expected lengths of runs, or them compressed")
    if sum(runs) != width * height:
        raise BadValue(f"{where}: counts make {sum(runs)} pixels; the image has {width * height}")
    return np.array(runs, dtype=np.int64)


def _decompressed(text: str) -> list[int] | None:
    """Lengths of runs: numbers of five bits a letter, the lowest first, the last letter with their sign."""
    runs: list[int] = []
    number = shift = 0
    for letter in text:
        bits = ord(letter) - _RUN_BASE
        if not 0 <= bits < 2 * _MORE or shift > 60:
            return None
        number |= (bits & (_MORE - 1)) << shift
        shift += 5
        if not bits & _MORE:
            if bits & _SIGN:
                number -= 1 << shift
            runs.append(number + (runs[-2] if len(runs) >= _COUNTED_FROM else 0))
            number = shift = 0
    return None if shift else runs


def _numbers(value: object) -> list[float]:
    """The numbers of a list; none if it is no list of such, or has one beyond any image."""
    if isinstance(value, list) and all(type(one) in (int, float) and abs(one) < 2**31 for one in value):
        return [float(one) for one in value]
    return []
