"""Dropout whose masks cost little on a CPU, where torch draws them one number at a time in one thread.

Sixteen random bits decide over each element, so that a probability is rounded to 1/65536 (0.1 to 0.100006);
the scale is that of the rounded one. Other devices use torch's own.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

_LEVELS = 2**16


class Dropout(nn.Module):
    """Zero each element with probability `p` while training, and scale the others up."""

    def __init__(self, p: float) -> None:
        """No mask is drawn for p = 0."""
        super().__init__()
        self.p = p

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The thinned tensor; itself in evaluation mode."""
        if not self.training or not self.p:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        keep, scale = keep_mask(x, self.p)
        return (x * keep).mul_(scale)


def keep_mask(like: Float[Tensor, "*shape"], p: float) -> tuple[Bool[Tensor, "*shape"], float]:
    """Which elements stay, drawn from torch's global generator, and the factor that keeps the mean."""
    dropped = round(p * _LEVELS)
    words = torch.empty(like.numel() // 4 + 1, dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: like.numel()].view(like.shape)
    return bits >= dropped - _LEVELS // 2, _LEVELS / (_LEVELS - dropped)


def dropped_attention(
    weights: Float[Tensor, "batch heads queries tokens"],
    value: Float[Tensor, "batch heads tokens width"],
    p: float,
) -> Float[Tensor, "batch heads queries width"]:
    """The product of thinned attention weights and values; keeps weights and mask, not their product."""
    keep, scale = keep_mask(weights, p)
    return _ThinnedProduct.apply(weights, value, keep, scale)


class _ThinnedProduct(torch.autograd.Function):
    """(weights * keep * scale) @ value, whose backward pass makes the thinned weights again."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, value: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(weights, value, keep)
        ctx.scale = scale
        return (weights * keep).mul_(scale) @ value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weights, value, keep = ctx.saved_tensors
        (gradient,) = gradients
        of_weights = (gradient @ value.transpose(-1, -2)).mul_(keep).mul_(ctx.scale)
        of_value = (weights * keep).mul_(ctx.scale).transpose(-1, -2) @ gradient
        return of_weights, of_value, None, None
