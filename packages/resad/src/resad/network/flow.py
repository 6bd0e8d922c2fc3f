"""The normalising flow of one feature level: coupling blocks that may see where on the grid a row lies.

ResAD (arXiv 2410.20047), section on the feature distribution estimator. The blocks have the entries of
FrEIA 0.2's `AllInOneBlock`, so that the authors' checkpoints fit.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

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
Codes = Float[Tensor, "cells condition"] | None
"""Position code of every cell of the grid; None: flows that see no positions."""
Cells = Int64[Tensor, " rows"] | None
"""Which cell each row has."""
Autocast = Callable[[], AbstractContextManager]
"""Enters the arithmetic of the subnets; what is summed up to likelihoods stays in fp32."""


class CouplingBlock(nn.Module):
    """One affine coupling, a global affine map and a fixed rotation.

    With rows x = [x1, x2] and condition c:

        a = 0.1 (W2 relu(W1 [x1, c] + b1) + b2),  s = clamp tanh(a_first),  t = a_second
        z = R (gamma [x1, x2 exp(s) + t] + delta),  log det = sum s + sum log gamma
    """

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
        self, rows: Rows, codes: Codes, cells: Cells, autocast: Autocast = nullcontext
    ) -> tuple[Rows, PerRow]:
        """The block's output and the logarithm of its Jacobian's determinant."""
        first, activation, second = cast(tuple[nn.Linear, nn.ReLU, nn.Linear], tuple(self.subnet))
        x1, x2 = rows[:, : self.kept], rows[:, self.kept :]
        with autocast():
            if codes is None or cells is None:
                hidden = first(x1)
            else:
                # Rows of one cell share their code's part of the first layer: it is computed once per cell.
                table = F.linear(codes, first.weight[:, self.kept :], first.bias)
                hidden = F.linear(x1, first.weight[:, : self.kept]) + table[cells]
            a = SUBNET_GAIN * second(activation(hidden))
        s, t = a.to(rows.dtype).chunk(2, dim=1)
        s = self.clamp * torch.tanh(s)
        coupled = torch.cat([x1, x2 * torch.exp(s) + t], dim=1)
        gamma = SCALE_GAIN * F.softplus(self.global_scale, beta=SCALE_BETA)
        # gamma and delta folded into the rotation: one product per block.
        z = F.linear(coupled, self.w_perm * gamma, (self.global_offset @ self.w_perm.T)[0])
        return z, s.sum(dim=1) + gamma.log().sum()


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
        self, rows: Rows, codes: Codes = None, cells: Cells = None, autocast: Autocast = nullcontext
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
    anomalous = (channels * LOG_NORMAL - 0.5 * (z - 1).square().sum(dim=1) + log_det) / channels
    return normal, anomalous


def position_codes(
    channels: int, height: int, width: int, device: torch.device | str = "cpu"
) -> Float[Tensor, "cells channels"]:
    """Sine code of every cell of a grid, row by row: the first half codes the column, the second the row.

    Channels 2k and 2k+1 of a half are sin and cos of the coordinate times 10^(-8k/d), d = channels / 2.
    """
    half = channels // 2
    frequency = torch.exp(torch.arange(0, half, 2, dtype=torch.float32) * -(math.log(1e4) / half))

    def code(length: int) -> Float[Tensor, "length half"]:
        angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency
        return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)

    columns = code(width)[None].expand(height, width, half)
    rows = code(height)[:, None].expand(height, width, half)
    return torch.cat([columns, rows], dim=2).reshape(height * width, channels).to(device)


def random_rotation(channels: int, generator: torch.Generator) -> Float[Tensor, "channels channels"]:
    """A rotation drawn uniformly: QR of a Gaussian matrix with the signs that make it unique, and det 1."""
    gaussian = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    q = q * r.diagonal().sign()
    # Of determinant 1, found without reading a value, so that models can be built on the meta device.
    q = torch.cat([q[:, :1] * torch.linalg.det(q).sign(), q[:, 1:]], dim=1)
    return q.float()
