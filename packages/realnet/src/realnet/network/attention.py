"""Group norm and self-attention over positions, as in every U-Net of RealNet (guided-diffusion's blocks)."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from realnet.network.structure import GROUPS

M = TypeVar("M", bound=nn.Module)


class GroupNorm(nn.GroupNorm):
    """Group norm in float32 or better, whatever arithmetic surrounds it."""

    def __init__(self, channels: int) -> None:
        """32 groups, eps 1e-5."""
        super().__init__(GROUPS, channels, eps=1e-5)

    def forward(self, x: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch channels *space"]:
        """Normalised values in the type of `x`."""
        precise = torch.promote_types(x.dtype, torch.float32)
        return super().forward(x.to(precise)).to(x.dtype)


class Attention(nn.Module):
    """Residual self-attention of all positions of a map, heads of `head_width` channels.

    Queries, keys and values lie head by head: (head, {q, k, v}, channel). At the start the block changes
    nothing, because its output projection is zero.
    """

    def __init__(self, channels: int, head_width: int) -> None:
        """Entries `norm`, `qkv`, `proj_out`; `channels` is a multiple of 32 and of `head_width`."""
        super().__init__()
        self.heads = channels // head_width
        self.norm = GroupNorm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The input plus what its positions see of each other."""
        flat = x.flatten(2)
        qkv = self.qkv(self.norm(flat)).unflatten(1, (self.heads, 3, -1)).transpose(3, 4)
        # A copy, because a CPU's one-pass kernel wants each position's channels together.
        query, key, value = qkv.contiguous().unbind(2)
        seen = F.scaled_dot_product_attention(query, key, value)
        return (flat + self.proj_out(seen.transpose(2, 3).flatten(1, 2))).view_as(x)


def zeroed(module: M) -> M:
    """The same module with every parameter zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
