"""The classifier of noisy images that guides the sampling: the U-Net's encoder and attention pooling."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from realnet.diffusion.network.blocks import Encoder, Shape
from realnet.network.attention import GroupNorm

HEAD_WIDTH = 64
"""Channels of every attention head of the reference's classifiers."""


class AttentionPool(nn.Module):
    """What the mean of all positions sees of them, projected.

    Queries, keys and values lie kind by kind: ({q, k, v}, head, channel), unlike those of `Attention`.
    """

    def __init__(self, positions: int, channels: int, classes: int) -> None:
        """Entries `positional_embedding`, `qkv_proj`, `c_proj`."""
        super().__init__()
        self.heads = channels // HEAD_WIDTH
        self.positional_embedding = nn.Parameter(torch.randn(channels, positions + 1) / channels**0.5)
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, classes, 1)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """One logit per class."""
        flat = x.flatten(2)
        tokens = torch.cat([flat.mean(dim=2, keepdim=True), flat], dim=2) + self.positional_embedding
        qkv = self.qkv_proj(tokens).unflatten(1, (3, self.heads, -1)).transpose(3, 4)
        query, key, value = qkv.unbind(1)
        # Only the mean's answer is used, so only its query is asked.
        seen = F.scaled_dot_product_attention(query[:, :, :1], key, value)
        return self.c_proj(seen.transpose(2, 3).flatten(1, 2)).squeeze(2)


class Classifier(Encoder):
    """Noisy images and their times -> a logit per class."""

    def __init__(self, shape: Shape, *, classes: int, image_size: int) -> None:
        """As `Encoder`; besides it the entries `out`. The images have to be of `image_size` pixels a side."""
        super().__init__(shape)
        side = image_size // 2 ** (len(shape.channel_mult) - 1)
        self.out = nn.Sequential(
            GroupNorm(self.channels), nn.SiLU(), AttentionPool(side**2, self.channels, classes)
        )

    def forward(
        self, x: Float[Tensor, "batch 3 height width"], times: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch classes"]:
        """One logit per class."""
        return self.out(self.encode(x, self.embed(times))[0])
