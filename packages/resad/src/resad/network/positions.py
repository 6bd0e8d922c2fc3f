"""Where on the grid a row lies, as the conditional flows are told: sine codes of its column and its row."""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

Codes = Float[Tensor, "places condition"] | None
"""Position codes; None: flows that see no positions."""
Cells = Int64[Tensor, " rows"] | Int64[Tensor, "parts rows"] | None
"""Which code each row has, or which ones' sum: those of its column and its row in `axis_codes`."""


def axis_codes(
    channels: int, height: int, width: int, device: torch.device | str = "cpu"
) -> Float[Tensor, "places channels"]:
    """Sine codes of every column, then of every row of a grid; a cell has the sum of its two.

    The first half of the channels codes the column, the second the row. Channels 2k and 2k+1 of a half are
    sin and cos of the coordinate times 10^(-8k/d), d = channels / 2.
    """
    half = channels // 2
    steps = torch.arange(0, half, 2, dtype=torch.float32, device=device)
    frequency = torch.exp(steps * -(math.log(1e4) / half))

    def code(length: int) -> Float[Tensor, "length half"]:
        angle = torch.arange(length, dtype=torch.float32, device=device)[:, None] * frequency
        return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)

    return torch.cat([F.pad(code(width), (0, half)), F.pad(code(height), (half, 0))])


def places(cells: Int64[Tensor, " rows"], width: int) -> Int64[Tensor, "2 rows"]:
    """The columns and rows of cells that are counted row by row, as `axis_codes` has them."""
    return torch.stack([cells % width, width + cells // width])


def grid(
    channels: int, height: int, width: int, device: torch.device
) -> tuple[Float[Tensor, "places channels"], Int64[Tensor, "2 cells"]]:
    """Codes of a grid, and which ones each of its cells has, row by row."""
    cells = torch.arange(height * width, device=device)
    return axis_codes(channels, height, width, device), places(cells, width)


# Computed once for each shape; not in inference mode, since it may be trained with afterwards.
kept_grid = lru_cache(maxsize=8)(torch.inference_mode(False)(grid))


def position_codes(channels: int, height: int, width: int) -> Float[Tensor, "cells channels"]:
    """The code of every cell of a grid, row by row."""
    return axis_codes(channels, height, width)[places(torch.arange(height * width), width)].sum(dim=0)
