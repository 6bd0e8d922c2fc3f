"""Photographs cut into squares that overlap, and the maps of these joined again.

The joined map is as fine as the tiles' own. Where tiles overlap each counts less towards its edge, so that
nothing shows where one ends.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32

from adcommon.types.records import Box


def boxes(width: int, height: int, tile: int, overlap: int) -> list[Box]:
    """The tiles of a photograph, row by row; one, the whole of it, if it is no larger than a tile.

    Tiles are spread evenly, so that neighbours share at least `overlap` pixels and the outer ones end with
    the photograph. If one of its sides is shorter than a tile, tiles are squares of that side.

    >>> boxes(1000, 600, 600, 100)
    [(0, 0, 600, 600), (400, 0, 1000, 600)]
    """
    if tile >= max(width, height):
        return [(0, 0, width, height)]
    side = min(tile, width, height)
    columns, rows = (_starts(length, side, min(overlap, side - 1)) for length in (width, height))
    return [(left, top, left + side, top + side) for top, left in itertools.product(rows, columns)]


def canvas(places: Sequence[Box], size: int) -> tuple[int, int]:
    """(width, height) of the map of a photograph, one with several tiles, each with `size` pixels."""
    scale = size / (places[0][2] - places[0][0])
    return round(scale * places[-1][0]) + size, round(scale * places[-1][1]) + size


def joined(
    maps: Float[np.ndarray, "tiles size size"], places: Sequence[Box], overlap: int
) -> Float32[np.ndarray, "height width"]:
    """The map of a photograph from those of its tiles.

    Args:
        places: of the tiles, from `boxes`; several.
        overlap: as there.

    Returns:
        As many pixels for a tile as its map has.
    """
    size = maps.shape[1]
    width, height = canvas(places, size)
    scale = size / (places[0][2] - places[0][0])
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    ramp = np.minimum(distance / max(0.5, scale * overlap), 1).astype(np.float32)
    total, weight = np.zeros((2, height, width), dtype=np.float32)
    for values, (left, top, _, _) in zip(maps, places, strict=True):
        down, across = round(scale * top), round(scale * left)
        there = np.s_[down : down + size, across : across + size]
        total[there] += values * ramp[:, None] * ramp
        weight[there] += ramp[:, None] * ramp
    return total / weight


def _starts(length: int, side: int, overlap: int) -> list[int]:
    count = math.ceil((length - overlap) / (side - overlap))
    return np.rint(np.linspace(0, length - side, count)).astype(int).tolist()
