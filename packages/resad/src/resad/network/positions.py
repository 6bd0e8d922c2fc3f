"""Where on the grid a row lies, as the conditional flows are told: sine codes of its column and its row."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Cells = Int64[Tensor, " rows"] | None
"""In which cell of the grid each row lies; cells are counted row by row."""


class Codes(NamedTuple):
    """The codes of a grid. A cell's has that of its column in the first half, and that of its row below."""

    columns: Float[Tensor, "width half"]
    rows: Float[Tensor, "height half"]

    @classmethod
    def of(cls, channels: int, height: int, width: int, device: torch.device | str = "cpu") -> "Codes":
        """Sine codes of a grid: channels 2k and 2k+1 are sin and cos of the coordinate times 10^(-8k/d).

        Args:
            channels: of a cell's code, 2 d.
        """
        half = channels // 2
        steps = torch.arange(0, half, 2, dtype=torch.float32, device=device)
        frequency = torch.exp(steps * -(math.log(1e4) / half))

        def code(length: int) -> Float[Tensor, "length half"]:
            angle = torch.arange(length, dtype=torch.float32, device=device)[:, None] * frequency
            return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)

        return cls(code(width), code(height))

    @property
    def cells(self) -> int:
        """How many there are."""
        return len(self.rows) * len(self.columns)

    def projected(
        self, weight: Float[Tensor, "hidden channels"], bias: Float[Tensor, " hidden"]
    ) -> Float[Tensor, "cells hidden"]:
        """What a linear layer makes of the code of every cell: columns and rows are multiplied, not cells."""
        of_columns, of_rows = weight.tensor_split(2, dim=1)
        below = torch.addmm(bias, self.rows.to(weight), of_rows.T)
        return (below[:, None] + self.columns.to(weight) @ of_columns.T).flatten(0, 1)

    def slopes(
        self, slope: Float[Tensor, "cells hidden"]
    ) -> tuple[Float[Tensor, "hidden channels"], Float[Tensor, " hidden"]]:
        """Those of weight and bias, from that of `projected`."""
        cells = slope.unflatten(0, (len(self.rows), len(self.columns)))
        of_rows, of_columns = cells.sum(dim=1), cells.sum(dim=0)
        parts = of_columns.T @ self.columns.to(slope), of_rows.T @ self.rows.to(slope)
        return torch.cat(parts, dim=1), of_rows.sum(dim=0)


# Computed once for each shape; not in inference mode, since it may be trained with afterwards.
kept_codes = lru_cache(maxsize=8)(torch.inference_mode(False)(Codes.of))


def position_codes(channels: int, height: int, width: int) -> Float[Tensor, "cells channels"]:
    """The code of every cell of a grid, row by row."""
    codes = Codes.of(channels, height, width)
    return torch.cat([codes.columns.repeat(height, 1), codes.rows.repeat_interleave(width, dim=0)], dim=1)
