"""Convolutions that keep their weights in the order that a CPU multiplies them in, while nothing learns.

oneDNN puts them in that order at every call. Of wide layers on small maps that takes as long as the products.
Weights that are loaded or replaced are noticed. Fused optimisers leave no trace on theirs: the pass that
their gradient came from drops what was kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.models import convolution

MOST_POSITIONS = 1024
"""Of a batch's maps together; with more the order is a few percent of the time, and not worth a copy."""
FEWEST_WEIGHTS = 2**17
"""Of a layer; fewer are in order sooner than somebody has looked whether they still are."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """Weights in oneDNN's order, which may depend on the input's shape."""

    source: convolution.Source
    shape: torch.Size
    weight: Tensor

    def is_for(self, weight: Tensor, x: Tensor) -> bool:
        """True if these are the weights, unchanged, in order for such inputs."""
        return self.shape == x.shape and self.source.is_still(weight)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Nothing is copied or stored: what this order is belongs to oneDNN."""
        return type(None), ()


def _gains(weight: Tensor, x: Tensor) -> bool:
    """False if compiled, learning, on another device or of another type, or too small or large to gain."""
    return not (
        torch.compiler.is_compiling()  # first, because an exported batch has no number
        or torch.is_grad_enabled()
        or weight.numel() < FEWEST_WEIGHTS
        or len(x) * x.shape[2] * x.shape[3] > MOST_POSITIONS
        or not x.dtype == weight.dtype == torch.float32
        or x.device.type != "cpu"
        or torch.is_autocast_enabled("cpu")
        or not torch.backends.mkldnn.is_available()
    )


class Conv2d(convolution.Conv2d):
    """torch's, with the same entries and results; on larger maps with fewer products."""

    _in_order: _Kept | None = None

    def forward(self, x: Float[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch _ _ _"]:
        """The convolution."""
        weight, kept = self.weight, self._in_order
        if self.has_fewer_products(x) or not _gains(weight, x):
            self._in_order = None
            return super().forward(x)
        how: tuple[Any, ...] = (self.padding, self.stride, self.dilation, self.groups)
        if kept is None or not kept.is_for(weight, x):
            reorder: Callable[..., Tensor] = torch._C._nn.mkldnn_reorder_conv2d_weight
            in_order = reorder(weight.detach().to_mkldnn(), *how, x.shape)
            kept = self._in_order = _Kept(convolution.Source.of(weight), x.shape, in_order)
        return torch.ops.mkldnn._convolution_pointwise(x, kept.weight, self.bias, *how, "none", [], "")


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch's, with the same entries and results."""

    _in_order: _Kept | None = None

    def forward(  # type: ignore[override]  # no size is asked for
        self, x: Float[Tensor, "batch _ _ _"]
    ) -> Float[Tensor, "batch _ _ _"]:
        """The transposed convolution."""
        weight, kept = self.weight, self._in_order
        if not _gains(weight, x):
            self._in_order = None
            return super().forward(x)
        how: tuple[Any, ...] = (self.padding, self.output_padding, self.stride, self.dilation, self.groups)
        if kept is None or not kept.is_for(weight, x):
            reorder = torch.ops.mkldnn._reorder_convolution_transpose_weight
            in_order = reorder(weight.detach(), *how, x.shape)
            kept = self._in_order = _Kept(convolution.Source.of(weight), x.shape, in_order)
        run = torch.ops.mkldnn._convolution_transpose_pointwise
        return run(x, kept.weight, self.bias, *how, "none", [], "")
