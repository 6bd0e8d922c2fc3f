"""Vision transformers as backbones: the tokens of some of their blocks, laid out as feature maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.errors import BadValue
from adcommon.types.values import multiple_near


class TokenMaps(nn.Module):
    """A transformer, cut above the last of its blocks that are wanted: images -> one map per block."""

    def __init__(self, network: Any, layers: Sequence[int], *, norm: bool) -> None:
        """Cut a timm transformer.

        Args:
            network: is changed.
            layers: blocks, counted from 0, rising.
            norm: put every map through the network's last norm.
        """
        super().__init__()
        self.layers = network.prune_intermediate_layers(list(layers), prune_norm=not norm)
        self.network = network
        self.norm = norm
        self.channels = (int(network.embed_dim),) * len(layers)
        self.strides = (int(network.feature_info[0]["reduction"]),) * len(layers)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch channels grid_height grid_width"]]:
        """The tokens of each block on their grid, without class and register tokens."""
        return self.network.forward_intermediates(
            images, indices=self.layers, norm=self.norm, output_fmt="NCHW", intermediates_only=True
        )


def token_maps(tag: str, layers: Sequence[int], *, image_size: int, norm: bool) -> TokenMaps:
    """An unfilled timm transformer whose position embeddings are those of a size of images.

    Args:
        tag: exact timm tag.
        layers: blocks, counted from 0, rising.
        image_size: side of the images, pixels.
        norm: put every map through the network's last norm, as DINOv2's own users do.

    Raises:
        BadValue: the network is no such transformer, has no such blocks, or the size is no multiple of its
            patches.
    """
    import timm

    architecture = tag.partition(".")[0]
    with torch.device("meta"):
        described: Any = timm.create_model(architecture, pretrained=False, num_classes=0)
    patch, depth = patch_side(described, tag), len(described.feature_info)
    if not layers or list(layers) != sorted(set(layers)) or not 0 <= layers[0] <= layers[-1] < depth:
        raise BadValue(
            f"layers are {tuple(layers)}; expected rising numbers of 0 to {depth - 1}, the blocks of '{tag}'"
        )
    if image_size % patch:
        raise BadValue(
            f"images of {image_size} pixels do not divide into the {patch}-pixel patches of '{tag}'; "
            f"expected such as --image-size {multiple_near(image_size, patch)}"
        )
    network = timm.create_model(architecture, pretrained=False, num_classes=0, img_size=image_size)
    return TokenMaps(network, layers, norm=norm)


def fitted_positions(state: Mapping[str, Tensor], network: Any) -> dict[str, Tensor]:
    """Weights whose position embeddings, if they have any, are resampled to the network's grid.

    Bicubic and antialiased, as timm does itself; where the grids are equal, nothing changes.
    """
    from timm.layers import resample_abs_pos_embed

    own = getattr(network, "pos_embed", None)
    given = state.get("pos_embed")
    if own is None or given is None or given.shape == own.shape:
        return dict(state)
    prefix = 0 if getattr(network, "no_embed_class", False) else network.num_prefix_tokens
    resampled = resample_abs_pos_embed(given, list(network.patch_embed.grid_size), num_prefix_tokens=prefix)
    return {**state, "pos_embed": resampled}


def patch_side(network: Any, tag: str) -> int:
    """Side of a transformer's patches, pixels.

    Raises:
        BadValue: the network is no such transformer.
    """
    steps = {entry["reduction"] for entry in getattr(network, "feature_info", ())}
    if len(steps) != 1 or not hasattr(network, "patch_embed"):
        raise BadValue(
            f"the backbone '{tag}' is no plain vision transformer; leave --layers out, or take "
            "--backbone vit_small_patch14_dinov2.lvd142m with --layers 11"
        )
    return int(steps.pop())
