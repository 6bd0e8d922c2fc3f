"""Residual features: what is left of a patch when its nearest normal patch is taken away.

Plain functions, usable with any other model on top.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from adcommon.errors import BadValue
from adcommon.models.neighbours import nearest
from resad.network.sorting import ordered, ordered_with_places

Maps = Float[Tensor, "batch channels height width"]
Rows = Float[Tensor, "rows channels"]
Residual = Literal["square", "subtract", "none"]


@dataclass(frozen=True, slots=True)
class ReferenceRows:
    """The patch features of one category's reference images at one level."""

    rows: Float[Tensor, "references channels"]
    """Image by image, then row, then column."""
    unit: Float[Tensor, "references channels"]
    """The same, of length 1: normalised once, not for every image that is matched."""

    @classmethod
    def of(cls, rows: Float[Tensor, "references channels"]) -> "ReferenceRows":
        """Normalise the rows."""
        return cls(rows, F.normalize(rows, dim=1))

    def first(self, count: int) -> "ReferenceRows":
        """The first `count` rows; both tensors are views."""
        return ReferenceRows(self.rows[:count], self.unit[:count])

    def to(self, device: torch.device | str) -> "ReferenceRows":
        """The same on a device."""
        return ReferenceRows(self.rows.to(device), self.unit.to(device))


@dataclass(frozen=True, slots=True)
class References:
    """The patch features of one category's reference images."""

    levels: list[ReferenceRows]
    images: int
    names: tuple[Path, ...] = ()
    """The images, in the order of the rows; empty where a file does not say."""
    turns: int = 1
    """How often each is there, turned; the image as it is comes first."""
    tiles: int = 1
    """Into which each is cut, before it is turned."""

    @classmethod
    def of(
        cls,
        maps: Sequence[Float[Tensor, "tiles _ _ _"]],
        names: Sequence[Path] = (),
        *,
        turns: int = 1,
        tiles: int = 1,
    ) -> "References":
        """The references in the feature maps of some images, level by level; turns lie below one another."""
        rows = [ReferenceRows.of(as_rows(level)) for level in maps]
        return cls(rows, len(maps[0]) // tiles, tuple(names), turns, tiles)

    def first(self, shots: int) -> "References":
        """The first `shots` images.

        Raises:
            BadValue: there are not so many.
        """
        if not 1 <= shots <= self.images:
            raise BadValue(
                f"{shots} reference images were asked for (--shots) and there are {self.images}; "
                f"expected 1 to {self.images}, or more images"
            )
        rows = [level.first(len(level.rows) // self.images * shots) for level in self.levels]
        return replace(self, levels=rows, images=shots, names=self.names[:shots])

    def to(self, device: torch.device | str) -> "References":
        """The same on a device."""
        return replace(self, levels=[level.to(device) for level in self.levels])

    def left_out(self, place: int) -> "tuple[list[Maps], References]":
        """The square feature maps of one image, or its tiles, as it is, and the references without it."""
        maps, others = [], []
        for level in self.levels:
            images = level.rows.unflatten(0, (self.images, self.tiles, self.turns, -1))
            side = math.isqrt(images.shape[3])
            maps.append(images[place, :, 0].permute(0, 2, 1).unflatten(2, (side, side)))
            kept = torch.cat([images[:place], images[place + 1 :]])
            others.append(ReferenceRows.of(kept.flatten(0, 3)))
        names = self.names[:place] + self.names[place + 1 :]
        return maps, replace(self, levels=others, images=self.images - 1, names=names)


def as_rows(maps: Maps) -> Rows:
    """Maps as rows: image by image, then row, then column."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def as_maps(rows: Rows, like: Maps) -> Maps:
    """The inverse of `as_rows`, on the grid of `like`."""
    batch, channels, height, width = like.shape
    return rows.reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def match(maps: Maps, references: ReferenceRows) -> Maps:
    """The nearest reference feature of every position, as it is (not normalised)."""
    index, _ = nearest(_directions(maps), references.unit)
    return as_maps(references.rows.index_select(0, index.flatten()), maps)


def match_nested(maps: Maps, references: ReferenceRows, counts: Sequence[int]) -> list[Maps]:
    """As `match` among the first rows only, for several rising numbers of rows; each is compared once."""
    rows = _directions(maps)
    found: list[Maps] = []
    index, best = torch.zeros(rows.shape[:2], dtype=torch.int64, device=rows.device), torch.tensor(-math.inf)
    for start, end in pairwise([0, *counts]):
        place, value = nearest(rows, references.unit[start:end])
        index = torch.where(value > best, place + start, index)
        best = torch.maximum(value, best.to(value))
        found.append(as_maps(references.rows.index_select(0, index.flatten()), maps))
    return found


def _directions(maps: Maps) -> Float[Tensor, "batch positions channels"]:
    """The feature of every position, of length 1."""
    return F.normalize(as_rows(maps), dim=1).unflatten(0, (maps.shape[0], -1))


def match_classes(maps: Maps, categories: Sequence[str], references: dict[str, ReferenceRows]) -> Maps:
    """As `match`, each image among the references of its own category."""
    images = zip(maps.split(1), categories, strict=True)
    return torch.cat([match(image, references[category]) for image, category in images])


def residual(maps: Maps, matched: Maps, kind: Residual) -> Maps:
    """(f - p)^2 element by element ("square"), f - p ("subtract"), or f ("none")."""
    if kind == "none":
        return maps
    difference = maps - matched
    return difference.square() if kind == "square" else difference


def match_distribution(maps: Maps, source: Maps, fdm_alpha: float) -> Maps:
    """Move the values of each image and channel towards the distribution of `source`, keeping their order.

    s = sort(r) + (1 - fdm_alpha) (sort(q) - sort(r)), put back where the values of r came from.

    Source: exact feature distribution matching, Zhang et al., CVPR 2022 (arXiv 2203.07740).
    """
    values, places = ordered_with_places(maps.flatten(2))
    moved = torch.lerp(values, ordered(source.flatten(2)), 1 - fdm_alpha)
    return torch.empty_like(moved).scatter_(2, places, moved).reshape(maps.shape)
