"""The frozen backbone and the neck that brings its maps to one grid (section 3.3).

The reference's EfficientNets pad for the resolution they were named for, whatever the image's: 380 pixels for
B4. timm pads for the image it gets. The two differ at those convolutions of stride 2 whose input has an odd
side at the named resolution; these get the reference's padding here.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.errors import BadValue
from adcommon.models.backbones import FeaturePyramid, map_channels
from adcommon.training.recipes import is_unchosen
from uniad.recipes import RECIPES, Recipe

logger = logging.getLogger(__name__)

NAMED_FOR = {
    f"tf_efficientnet_b{size}": side for size, side in enumerate((224, 240, 260, 300, 380, 456, 528))
}
"""Resolution in pixels that each EfficientNet of the reference pads for, by timm's name."""


def fitted(recipe: Recipe, given: Collection[str] = ()) -> Recipe:
    """The recipe with those of its strides that its backbone has, if nobody chose them.

    Args:
        given: fields that the user named.
    """
    if not is_unchosen("strides", recipe, RECIPES, given):
        return recipe
    found = map_channels(recipe.backbone)
    strides = tuple(stride for stride in recipe.strides if stride in found)
    if strides and strides != recipe.strides:
        logger.info("for %s: --strides %s", recipe.backbone, " ".join(map(str, strides)))
        return replace(recipe, strides=strides)
    return recipe


class AlignedFeatures(nn.Module):
    """Backbone and neck: images -> one map with the channels of all strides, without gradients."""

    def __init__(
        self,
        tag: str,
        weights: str | None = "pretrained",
        *,
        strides: Sequence[int] = (2, 4, 8, 16),
        out_stride: int = 16,
        fixed_padding: bool = True,
        channels_last: bool = False,
    ) -> None:
        """Build the backbone; all maps are brought to the grid of `out_stride`.

        Args:
            tag: exact timm tag.
            weights: "pretrained", "random" or a file; None: a checkpoint will fill it.
            strides: of the maps to use, pixels per cell, rising.
            out_stride: of the result.
            fixed_padding: pad EfficientNet B0 to B6 as the reference does; others have no such choice.
            channels_last: memory layout; values change by rounding.
        """
        super().__init__()
        self.pyramid = FeaturePyramid(tag, weights, strides=strides, channels_last=channels_last)
        self.tag = tag
        self.out_stride = out_stride
        self.strides: tuple[int, ...] = (out_stride,)
        self.fixed_padding = fixed_padding
        self.channels = sum(self.pyramid.channels)
        if fixed_padding:
            pad_as_reference(self.pyramid.trunk, tag)

    def extra_repr(self) -> str:
        """What decides the result besides the layers; part of the key under which features are cached."""
        return f"strides={self.pyramid.strides}, out_stride={self.out_stride}"

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch channels grid_height grid_width"]]:
        """One aligned map, in a list as a pyramid gives it."""
        check_size(tuple(images.shape[2:]), (*self.pyramid.strides, self.out_stride))
        grid = (images.shape[2] // self.out_stride, images.shape[3] // self.out_stride)
        return [align(self.pyramid(images), grid)]


def align(
    levels: Sequence[Float[Tensor, "batch _ _ _"]], grid: tuple[int, int]
) -> Float[Tensor, "batch channels grid_height grid_width"]:
    """Resize each map to the grid (bilinear, corners aligned, no antialiasing) and join the channels."""
    # Faithful: from 112 to 14 cells this reads four source cells each.
    resized = [F.interpolate(level, grid, mode="bilinear", align_corners=True) for level in levels]
    return torch.cat(resized, dim=1)


def check_size(size: tuple[int, ...], strides: Sequence[int]) -> None:
    """Refuse images that do not divide into whole cells at every stride."""
    coarsest = max(strides)
    if any(side % coarsest for side in size):
        raise BadValue(
            f"images of {'x'.join(map(str, size))} pixels do not divide into cells of {coarsest} pixels, the "
            f"coarsest stride in use; expected sides that are multiples of {coarsest} (--image-size)"
        )


def pad_as_reference(trunk: nn.Module, tag: str) -> None:
    """Give the strided convolutions of an EfficientNet B0 to B6 the padding of its named resolution.

    Exact for images whose sides divide by the coarsest stride; other backbones are left as they are.
    """
    side = NAMED_FOR.get(tag.partition(".")[0])
    if side is None:
        return
    stages: list[nn.Module] = list(trunk.blocks)  # type: ignore[arg-type]
    side = -(-side // 2)  # behind the stem, whose input is even in all seven
    for stage in stages:
        block = stage[0]  # type: ignore[index]
        if block.conv_dw.stride[0] == 2:
            if side % 2:
                block.conv_dw = _centred(block.conv_dw)
            side = -(-side // 2)


def _centred(convolution: nn.Conv2d) -> nn.Conv2d:
    """The same convolution with equal padding on both sides."""
    centred = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        stride=convolution.stride,  # type: ignore[arg-type]
        padding=convolution.kernel_size[0] // 2,
        groups=convolution.groups,
        bias=convolution.bias is not None,
    )
    centred.weight, centred.bias = convolution.weight, convolution.bias
    return centred
