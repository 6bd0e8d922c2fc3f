"""Nearest neighbours among feature vectors."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

SIMILARITIES = 2**24
"""Similarities held at once, 64 MB in float32; more rows are compared in pieces."""


def nearest(
    rows: Float[Tensor, "rows channels"], bank: Float[Tensor, "bank channels"]
) -> tuple[Int64[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Which row of the bank has the largest cosine similarity to each row, and that similarity.

    All rows have length 1. One matrix product, in pieces of at most `SIMILARITIES` entries.
    """
    piece = max(1, SIMILARITIES // len(bank))
    found = [(part @ bank.T).max(dim=1) for part in rows.split(piece)]
    return torch.cat([best.indices for best in found]), torch.cat([best.values for best in found])
