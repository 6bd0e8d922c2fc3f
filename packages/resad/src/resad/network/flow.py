"""The normalising flow of one feature level: coupling blocks that may see where on the grid a row lies.

ResAD (arXiv 2410.20047), section on the feature distribution estimator. The blocks have the entries of
FrEIA 0.2's `AllInOneBlock`, so that the authors' checkpoints fit.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from resad.network.positions import Cells, Codes

LOG_NORMAL = -0.9189385332046727
"""Logarithm of the standard normal's constant, -log(2 pi) / 2, per channel."""
SUBNET_GAIN = 0.1
"""What the subnet's output is multiplied by."""
SCALE_GAIN, SCALE_BETA = 0.1, 0.5
"""The global scale is `SCALE_GAIN` softplus(g) with this sharpness."""
SCALE_START = 2 * math.log(math.exp(5) - 1)
"""The g of a scale of 1."""

Rows = Float[Tensor, "rows channels"]
PerRow = Float[Tensor, " rows"]
Autocast = Callable[[], AbstractContextManager]
"""Enters the arithmetic of the subnets; what is summed up to likelihoods stays in fp32."""


class CouplingBlock(nn.Module):
    """One affine coupling, a global affine map and a fixed rotation.

    With rows x = [x1, x2] and condition c:

        a = 0.1 (W2 relu(W1 [x1, c] + b1) + b2),  s = clamp tanh(a_first),  t = a_second
        z = R (gamma [x1, x2 exp(s) + t] + delta),  log det = sum s + sum log gamma
    """

    _known: "_Constants | None" = None

    def __init__(self, channels: int, condition: int, clamp: float, generator: torch.Generator) -> None:
        """Start as the identity's rotation, scale 1 and a subnet of PyTorch's default.

        Args:
            condition: of the position code; 0 without one.
            clamp: largest |s|.
            generator: draws the rotation, which is never trained.
        """
        super().__init__()
        self.clamp = clamp
        self.kept = channels - channels // 2
        changed = channels // 2
        inputs = self.kept + condition
        rotation = random_rotation(channels, generator)
        self.global_scale = nn.Parameter(torch.full((1, channels), SCALE_START))
        self.global_offset = nn.Parameter(torch.zeros(1, channels))
        self.w_perm = nn.Parameter(rotation, requires_grad=False)
        self.w_perm_inv = nn.Parameter(rotation.T.contiguous(), requires_grad=False)
        self.subnet = nn.ModuleList(
            [nn.Linear(inputs, 2 * inputs), nn.ReLU(), nn.Linear(2 * inputs, 2 * changed)]
        )

    def forward(
        self, rows: Rows, codes: Codes | None, cells: Cells, autocast: Autocast = nullcontext
    ) -> tuple[Rows, PerRow]:
        """The block's output and the logarithm of its Jacobian's determinant."""
        first, _, second = cast(tuple[nn.Linear, nn.ReLU, nn.Linear], tuple(self.subnet))
        with autocast():
            device = rows.device.type
            half = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else rows.dtype
        learns = torch.is_grad_enabled() or torch.compiler.is_compiling()
        self._known = None if learns else self._constants(codes)
        coupled: tuple[Rows, PerRow] = _Coupling.apply(
            *(rows, first.weight, first.bias, second.weight, second.bias, self.global_scale),
            *(self.global_offset, self.w_perm, codes, cells, self.clamp, half, self._known),
        )
        return coupled

    def _constants(self, codes: Codes | None) -> "_Constants":
        """What follows from weights and codes; as long as nothing learns, it is computed once.

        Weights that are loaded are noticed. Fused optimisers leave no trace on theirs: the pass that their
        gradient came from has dropped what was known.
        """
        first = cast(nn.Linear, self.subnet[0])
        of = (first.weight, first.bias, self.global_scale, self.global_offset, self.w_perm)
        known, now = self._known, _versions(of)
        if known is None or known.codes is not codes or known.of != now:
            known = replace(_Constants.of_weights(self.kept, *of, codes), of=now)
        return known


def _versions(weights: Iterable[Tensor]) -> tuple[tuple[int, int], ...]:
    return tuple((weight.data_ptr(), weight._version) for weight in weights)


@dataclass(frozen=True, slots=True)
class _Constants:
    """What a block computes of its weights alone."""

    codes: Codes | None
    table: Float[Tensor, "cells hidden"] | None
    """The codes' part of the first layer: computed once per cell, not once per row."""
    gamma: Float[Tensor, "1 channels"]
    log_gamma: Float[Tensor, ""]
    """Summed over channels."""
    turn: Float[Tensor, "channels channels"]
    """gamma folded into the rotation: one product per block."""
    shift: Float[Tensor, "channels 1"]
    """delta, turned."""
    of: tuple[tuple[int, int], ...] = ()
    """Places and versions of the weights, where it is kept; what is traced has none."""

    @classmethod
    def of_weights(
        cls,
        kept: int,
        first: Float[Tensor, "hidden inputs"],
        first_bias: Float[Tensor, " hidden"],
        scale: Float[Tensor, "1 channels"],
        offset: Float[Tensor, "1 channels"],
        rotation: Float[Tensor, "channels channels"],
        codes: Codes | None,
    ) -> "_Constants":
        """Computed."""
        table = None if codes is None else codes.projected(first[:, kept:], first_bias)
        gamma = SCALE_GAIN * F.softplus(scale, beta=SCALE_BETA)
        return cls(codes, table, gamma, gamma.log().sum(), rotation * gamma, rotation @ offset.T)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Nothing is copied or stored: it is computed anew."""
        return type(None), ()


class _Coupling(torch.autograd.Function):
    """A block and its gradient: four products forward, seven back, and few passes over memory between.

    Autograd would keep twice as much, and multiply out a gradient of the rotation, which is not trained.
    In memory the rows are columns, x: halves of the channels are then whole pieces, and the narrow side of
    a product is not the one that lies in a row, where a CPU takes twice as long for it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Rows,
        first: Float[Tensor, "hidden inputs"],
        first_bias: Float[Tensor, " hidden"],
        second: Float[Tensor, "changed_twice hidden"],
        second_bias: Float[Tensor, " changed_twice"],
        scale: Float[Tensor, "1 channels"],
        offset: Float[Tensor, "1 channels"],
        rotation: Float[Tensor, "channels channels"],
        codes: Codes | None,
        cells: Cells,
        clamp: float,
        half: torch.dtype,
        known: "_Constants | None",
    ) -> tuple[Rows, PerRow]:
        """The block's output and log det; `half` is the arithmetic of the subnet's products."""
        x = rows.T.contiguous()  # as the block before has left it
        changed = len(x) // 2
        x1, x2 = x.tensor_split([len(x) - changed])
        below = first[:, : len(x1)]
        if known is None:
            known = _Constants.of_weights(len(x1), first, first_bias, scale, offset, rotation, codes)
        gamma, turn, table = known.gamma, known.turn, known.table
        if table is None or cells is None:
            hidden = first_bias.repeat(len(rows), 1)
        else:
            hidden = table.index_select(0, cells)
        hidden = hidden.to(half).addmm_(x1.T.to(half), below.to(half).T).relu_()
        gain, bias = SUBNET_GAIN, second_bias[:, None].to(half)
        a = torch.addmm(bias, second.to(half), hidden.T, beta=gain, alpha=gain).to(rows.dtype)
        squashed = a[:changed].tanh()
        s = clamp * squashed
        stretch = s.exp()
        coupled = torch.cat([x1, torch.addcmul(a[changed:], x2, stretch)])
        z = torch.addmm(known.shift, turn, coupled)
        layers = (first, second, scale, gamma, rotation, turn, cells)
        ctx.save_for_backward(x, hidden, squashed, stretch, coupled, *layers)
        ctx.codes, ctx.clamp = codes, clamp
        return z.T, s.sum(dim=0) + known.log_gamma

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_z: Rows, grad_log_det: PerRow) -> tuple[Tensor | None, ...]:
        """Gradients of rows, both layers, scale and offset."""
        x, hidden, squashed, stretch, coupled, *layers = ctx.saved_tensors
        first, second, scale, gamma, rotation, turn, cells = layers
        half, kept = hidden.dtype, len(x) - len(squashed)
        x1, x2 = x.tensor_split([kept])
        grad_x = turn.T @ grad_z.T
        grad_gamma = ((grad_x * coupled).sum(dim=1) + grad_log_det.sum()) / gamma
        grad_scale = grad_gamma * SCALE_GAIN * torch.sigmoid(SCALE_BETA * scale)
        grad_offset = grad_z.sum(dim=0, keepdim=True) @ rotation
        grad_x1, grad_x2 = grad_x.tensor_split([kept])
        grad_t = SUBNET_GAIN * grad_x2
        grad_x2 *= stretch
        gain = SUBNET_GAIN * ctx.clamp
        grad_s = torch.addcmul(gain * grad_log_det, grad_x2, x2, value=gain)
        grad_a = torch.cat([torch.ops.aten.tanh_backward(grad_s, squashed), grad_t])
        grad_second_bias, grad_a = grad_a.sum(dim=1), grad_a.to(half)
        grad_second = (grad_a @ hidden).to(second.dtype)
        grad_hidden = grad_a.T @ second.to(half)
        torch.ops.aten.threshold_backward.grad_input(grad_hidden, hidden, 0, grad_input=grad_hidden)
        if ctx.needs_input_grad[0]:
            grad_x1 += first[:, :kept].T.to(half) @ grad_hidden.T
        grad_first = (x1.to(half) @ grad_hidden).T.to(first.dtype)
        if ctx.codes is None:
            grad_first_bias = grad_hidden.sum(dim=0).to(first.dtype)
        else:
            grad_table = first.new_zeros(ctx.codes.cells, len(first))
            grad_table.index_add_(0, cells, grad_hidden.to(first.dtype))
            grad_codes, grad_first_bias = ctx.codes.slopes(grad_table)
            grad_first = torch.cat([grad_first, grad_codes], dim=1)
        subnet = (grad_first, grad_first_bias, grad_second, grad_second_bias)
        return grad_x.T, *subnet, grad_scale, grad_offset, None, None, None, None, None, None


class Flow(nn.Module):
    """Coupling blocks in sequence; `flow_model` of the reference without codes, else its conditional one."""

    def __init__(
        self, channels: int, blocks: int, condition: int, clamp: float, generator: torch.Generator
    ) -> None:
        """Build `blocks` blocks; see `CouplingBlock`."""
        super().__init__()
        self.module_list = nn.ModuleList(
            CouplingBlock(channels, condition, clamp, generator) for _ in range(blocks)
        )

    def forward(
        self, rows: Rows, codes: Codes | None = None, cells: Cells = None, autocast: Autocast = nullcontext
    ) -> tuple[Rows, PerRow]:
        """Latent rows and the summed log-determinants."""
        log_det = rows.new_zeros(rows.shape[0])
        for block in self.module_list:
            rows, part = block(rows, codes, cells, autocast)
            log_det = log_det + part
        return rows, log_det


def log_likelihoods(z: Rows, log_det: PerRow) -> tuple[PerRow, PerRow]:
    """Log-likelihood per channel of each row, as normal (centre 0) and as anomalous (centre 1).

    L_n = (C G - |z|^2 / 2 + log det) / C;  L_a = (C G - |z - 1|^2 / 2 + log det) / C.
    """
    channels = z.shape[1]
    normal = (channels * LOG_NORMAL - 0.5 * z.square().sum(dim=1) + log_det) / channels
    return normal, normal + z.sum(dim=1) / channels - 0.5  # |z - 1|^2 = |z|^2 - 2 sum z + C


def random_rotation(channels: int, generator: torch.Generator) -> Float[Tensor, "channels channels"]:
    """A rotation drawn uniformly: QR of a Gaussian matrix with the signs that make it unique, and det 1."""
    gaussian = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    q = q * r.diagonal().sign()
    # Of determinant 1, found without reading a value, so that models can be built on the meta device.
    q = torch.cat([q[:, :1] * torch.linalg.det(q).sign(), q[:, 1:]], dim=1)
    return q.float()
