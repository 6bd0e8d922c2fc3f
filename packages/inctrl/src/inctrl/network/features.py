"""What a frozen tower says of images: one token each, and patch tokens of several levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adcommon.models.feature_store import FrozenFeatures


@dataclass(frozen=True, slots=True)
class Features:
    """Of a batch of images."""

    tokens: Float[Tensor, "images embed"]
    """f(x): the whole image; not normalised."""
    levels: list[Float[Tensor, "images patches _channels"]]
    """P_l(x): one row per patch, in row-major order; every level has the same patches."""

    def to(self, device: torch.device | str) -> "Features":
        """The same on a device."""
        return Features(self.tokens.to(device), [level.to(device) for level in self.levels])

    def __getitem__(self, images: slice | Bool[Tensor, " images"]) -> "Features":
        """Those of some of the images."""
        return Features(self.tokens[images], [level[images] for level in self.levels])


@runtime_checkable
class Tower(FrozenFeatures, Protocol):
    """A frozen network whose first map is the token, of one cell as large as the image; then the levels.

    Nobody inherits from it.
    """

    embed: int
    """Numbers of a token."""
    channels: tuple[int, ...]
    """Numbers of a patch, by level."""
    grid: tuple[int, int]
    """Patches down and across."""


def as_features(maps: Sequence[Float[Tensor, "images _channels _height _width"]]) -> Features:
    """The maps of a tower as tokens."""
    token, *levels = maps
    return Features(token.flatten(1), [level.flatten(2).transpose(1, 2) for level in levels])
