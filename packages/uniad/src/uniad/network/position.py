"""Position embeddings of a grid's tokens, in row-major order: learned tables or fixed sines (section 3.2).

Both give the columns' and the rows' part each half of the width, in opposite order, as the reference does.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.errors import BadValue

TEMPERATURE = 10_000.0


class LearnedPosition(nn.Module):
    """A table of rows and a table of columns; a token has its column's entry, then its row's."""

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        """Tables uniform in [0, 1).

        Args:
            grid: rows and columns of tokens.
            width: of a token, even.
        """
        super().__init__()
        self.row_embed = nn.Embedding(grid[0], width // 2)
        self.col_embed = nn.Embedding(grid[1], width // 2)
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self) -> Float[Tensor, "tokens width"]:
        """The embedding of every token."""
        rows, columns = self.row_embed.weight, self.col_embed.weight
        shape = (len(rows), len(columns), -1)
        return torch.cat([columns[None].expand(shape), rows[:, None].expand(shape)], dim=-1).flatten(0, 1)


class SinePosition(nn.Module):
    """Sines (even elements) and cosines (odd) of row and column at falling frequencies; row part first."""

    table: Float[Tensor, "tokens width"]

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        """As `LearnedPosition`; nothing here is trained or stored."""
        super().__init__()
        height, columns = grid
        rows = _waves(height, width // 2)[:, None].expand(height, columns, -1)
        across = _waves(columns, width // 2)[None].expand(height, columns, -1)
        self.register_buffer("table", torch.cat([rows, across], dim=-1).flatten(0, 1), persistent=False)

    def forward(self) -> Float[Tensor, "tokens width"]:
        """The embedding of every token."""
        return self.table


def make_position(kind: str, grid: tuple[int, int], width: int) -> LearnedPosition | SinePosition:
    """The embedding called `kind`: "learned" or "sine"."""
    if kind not in ("learned", "sine"):
        raise BadValue(f"the position embedding is '{kind}'; expected learned or sine")
    return LearnedPosition(grid, width) if kind == "learned" else SinePosition(grid, width)


def _waves(count: int, width: int) -> Float[Tensor, "count width"]:
    """Positions 1..count, scaled to (0, 2 pi], at frequencies TEMPERATURE^(-2 floor(i / 2) / width)."""
    places = torch.arange(1, count + 1, dtype=torch.float32) * (2 * math.pi) / (count + 1e-6)
    pairs = torch.arange(width, dtype=torch.float32).div(2, rounding_mode="floor")
    angles = places[:, None] / TEMPERATURE ** (2 * pairs / width)
    return torch.where(torch.arange(width) % 2 == 0, angles.sin(), angles.cos())
