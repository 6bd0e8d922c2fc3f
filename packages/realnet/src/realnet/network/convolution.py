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


@dataclass(frozen=True, slots=True)
class _Kept:
    """Weights in oneDNN's order, which may depend on the input's shape."""

    source: convolution.Source
    shape: torch.Size
    weight: Tensor

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Nothing is copied or stored: what this order is belongs to oneDNN."""
        return type(None), ()


def _reordered(
    kept: _Kept | None, weight: Tensor, x: Tensor, reorder: Callable[[Tensor], Tensor]
) -> _Kept | None:
    """What to multiply with; None: compiled, learning, another device or type, or maps that gain nothing."""
    if (
        torch.compiler.is_compiling()  # first, because an exported batch has no number
        or torch.is_grad_enabled()
        or x.device.type != "cpu"
        or not x.dtype == weight.dtype == torch.float32
        or x[:, 0].numel() > MOST_POSITIONS
        or torch.is_autocast_enabled("cpu")
        or not torch.backends.mkldnn.is_available()
    ):
        return None
    if kept is not None and kept.shape == x.shape and kept.source.is_still(weight):
        return kept
    return _Kept(convolution.Source.of(weight), x.shape, reorder(weight.detach()))


class Conv2d(convolution.Conv2d):
    """torch's, with the same entries and results; on larger maps with fewer products."""

    _in_order: _Kept | None = None

    def forward(self, x: Float[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch _ _ _"]:
        """The convolution."""
        if self.has_fewer_products(x):
            self._in_order = None
            return super().forward(x)
        how: tuple[Any, ...] = (self.padding, self.stride, self.dilation, self.groups)
        reorder: Callable[..., Tensor] = torch._C._nn.mkldnn_reorder_conv2d_weight
        kept = self._in_order = _reordered(
            self._in_order,
            self.weight,
            x,
            lambda weight: reorder(weight.to_mkldnn(), *how, x.shape),
        )
        if kept is None:
            return super().forward(x)
        return torch.ops.mkldnn._convolution_pointwise(x, kept.weight, self.bias, *how, "none", [], "")


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch's, with the same entries and results."""

    _in_order: _Kept | None = None

    def forward(  # type: ignore[override]  # no size is asked for
        self, x: Float[Tensor, "batch _ _ _"]
    ) -> Float[Tensor, "batch _ _ _"]:
        """The transposed convolution."""
        how: tuple[Any, ...] = (self.padding, self.output_padding, self.stride, self.dilation, self.groups)
        kept = self._in_order = _reordered(
            self._in_order,
            self.weight,
            x,
            lambda weight: torch.ops.mkldnn._reorder_convolution_transpose_weight(weight, *how, x.shape),
        )
        if kept is None:
            return super().forward(x)
        run = torch.ops.mkldnn._convolution_transpose_pointwise
        return run(x, kept.weight, self.bias, *how, "none", [], "")
