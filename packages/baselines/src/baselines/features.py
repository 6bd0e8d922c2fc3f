"""The frozen network, and its maps brought to one grid: a vector for every patch of the image."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue
from adcommon.models.backbones import FeaturePyramid, normalisation
from baselines.recipe import Base


class PatchFeatures(nn.Module):
    """Images -> one map, on the finest grid of the network's maps, never with gradients."""

    def __init__(
        self,
        pyramid: FeaturePyramid,
        *,
        upsampling: Literal["nearest", "bilinear"],
        neighbourhood: int = 1,
        kept: Sequence[int] | None = None,
    ) -> None:
        """Put a network and the choice of its channels together.

        Args:
            pyramid: the frozen network.
            upsampling: of the coarser maps.
            neighbourhood: side of the square of cells whose mean takes the place of each, odd.
            kept: channels to keep, counted through all maps, rising; None: all.
        """
        super().__init__()
        self.pyramid, self.upsampling, self.neighbourhood = pyramid, upsampling, neighbourhood
        total = sum(pyramid.channels)
        if neighbourhood % 2 == 0:
            raise BadValue(f"neighbourhood is {neighbourhood}; expected an odd number, such as 3")
        if kept is not None and not _rises_below(kept, total):
            raise BadValue(f"the channels that are kept are not rising numbers of 0 to {total - 1}")
        self.kept = None if kept is None else _by_level(kept, pyramid.channels)
        self.channels = total if kept is None else len(kept)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels grid_height grid_width"]:
        """The vector of every patch."""
        levels = self.pyramid(images)
        grid, mode = levels[0].shape[2:], self.upsampling
        if self.kept is not None:
            levels = [
                level.index_select(1, kept.to(level.device))
                for level, kept in zip(levels, self.kept, strict=True)
                if len(kept)
            ]
        if (side := self.neighbourhood) > 1:
            # Zeros beyond the border count, as where features are unfolded with padding.
            levels = [F.avg_pool2d(level, side, stride=1, padding=side // 2) for level in levels]
        return torch.cat([F.interpolate(level, grid, mode=mode) for level in levels], dim=1)


def grid_of(pyramid: FeaturePyramid, size: int) -> int:
    """Cells along a side of the map of an image of `size` pixels."""
    return size // pyramid.strides[0]


def make_pyramid(recipe: Base, weights: str | None) -> FeaturePyramid:
    """The frozen network of a recipe.

    Args:
        weights: "pretrained", "random" or a file; None: a checkpoint will fill it.
    """
    return FeaturePyramid(
        recipe.backbone,
        weights,
        strides=recipe.strides,
        layers=recipe.layers,
        image_size=recipe.size,
        norm=recipe.norm,
        channels_last=recipe.channels_last,
    )


def make_preprocess(recipe: Base) -> Preprocess:
    """How the recipe's images are made, normalised as the network's weights want it."""
    mean, std = normalisation(recipe.backbone)
    return Preprocess(
        image_size=recipe.image_size,
        crop_size=recipe.crop_size,
        upright=recipe.upright,
        white=recipe.white,
        tile=recipe.tile,
        overlap=recipe.overlap,
        mean=mean,
        std=std,
    )


def _rises_below(channels: Sequence[int], total: int) -> bool:
    return bool(channels) and list(channels) == sorted({*channels} & {*range(total)})


def _by_level(kept: Sequence[int], channels: Sequence[int]) -> list[Int64[Tensor, " chosen"]]:
    """The kept channels of each map, counted within it."""
    found, first = [], 0
    for count in channels:
        own = [channel - first for channel in kept if first <= channel < first + count]
        found.append(torch.tensor(own, dtype=torch.int64))
        first += count
    return found
