"""Any timm network as a frozen tower, without text: the vision-only mode."""

from collections.abc import Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.errors import BadValue
from adcommon.models import weights as weight_files
from adcommon.models.backbones import SUITABLE, fill_trunk, repeatable_draws
from adcommon.models.outline import Undrawn, outlined, refuse_large


def shape_of(tag: str) -> tuple[int, int | None]:
    """How many layers of a timm network give maps, stages or blocks, and the only side of images it takes.

    None: it takes images of any size.
    """
    weight_files.check_tag(tag, weights="random")
    with torch.device("meta"):
        network: Any = timm.create_model(tag.partition(".")[0], pretrained=False, num_classes=0)
    sides = getattr(getattr(network, "patch_embed", None), "img_size", None)
    return len(getattr(network, "feature_info", ())), sides and sides[0]


class VisionTower(nn.Module):
    """A timm network: its pooled features as the token, and maps of chosen layers on one grid."""

    def __init__(
        self, tag: str, weights: str, *, layers: Sequence[int], image_size: int, out_stride: int
    ) -> None:
        """Build the network, frozen and in evaluation mode.

        Args:
            weights: "pretrained", "random", or a file.
            layers: stages of a convolutional network, blocks of a transformer; counted from 1.
            out_stride: pixels per cell of the grid that all maps are brought to.
        """
        super().__init__()
        weight_files.check_tag(tag, weights)
        self.tag = tag
        self.layers = tuple(layers)
        self.strides = (image_size, *(out_stride for _ in layers))
        self.grid = (image_size // out_stride, image_size // out_stride)
        with torch.device("meta"):
            self.network: Any = timm.create_model(tag.partition(".")[0], pretrained=False, num_classes=0)
        if not hasattr(self.network, "forward_intermediates"):
            raise BadValue(f"timm gives no feature maps of '{tag}'; take one that has them, {SUITABLE}")
        if weight_files.is_random(weights):
            refuse_large(self.network, tag)
        self.network.requires_grad_(False).eval()
        try:
            seen = self(torch.zeros(1, 3, image_size, image_size, device="meta"))
        except (IndexError, AssertionError) as error:
            depth, side = shape_of(tag)
            fits = range(max(depth - 2, 1), depth + 1)
            raise BadValue(
                f"the backbone '{tag}' has layers 1 to {depth}, asked for {', '.join(map(str, layers))}, or "
                f"takes no images of {image_size} pixels ({error}); such as --layers "
                f"{' '.join(map(str, fits))} --image-size {side or 224}"
            ) from None
        self.embed: int = seen[0].shape[1]
        self.channels: tuple[int, ...] = tuple(level.shape[1] for level in seen[1:])
        if not outlined():
            self._build(weights)

    def _build(self, weights: str) -> None:
        """Put the network itself in the place of its outline."""
        state = weight_files.resolve(self.tag, weights)
        with repeatable_draws() if state is None else Undrawn():
            network = timm.create_model(self.tag.partition(".")[0], pretrained=False, num_classes=0)
        if state is not None:
            fill_trunk(network, state, self.tag)
        self.network = network.requires_grad_(False).eval()

    def extra_repr(self) -> str:
        """What decides the maps besides the weights; caches of features go by it."""
        return f"layers={self.layers}, grid={self.grid}"

    @torch.no_grad()
    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch _channels _height _width"]]:
        """The token as a map of one cell, then a map for each layer.

        A finer map is averaged over the cells of the grid, a coarser one interpolated.
        """
        final, maps = self.network.forward_intermediates(images, indices=[layer - 1 for layer in self.layers])
        token = self.network.forward_head(final, pre_logits=True)
        return [token[:, :, None, None], *(self._on_grid(level) for level in maps)]

    def _on_grid(
        self, level: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels grid_height grid_width"]:
        if level.shape[2] < self.grid[0]:
            return F.interpolate(level, self.grid, mode="bilinear", align_corners=False)
        return F.adaptive_avg_pool2d(level, self.grid)
