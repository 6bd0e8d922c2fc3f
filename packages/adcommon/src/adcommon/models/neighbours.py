"""Nearest neighbours among feature vectors, in pieces: a bank of any size fits beside a few megabytes."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

SIMILARITIES = 2**24
"""Similarities or distances held at once, 64 MB in float32; more are computed in pieces."""


def nearest(
    rows: Float[Tensor, "rows channels"], bank: Float[Tensor, "bank channels"]
) -> tuple[Int64[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Which row of the bank has the largest cosine similarity to each row, and that similarity.

    All rows have length 1. One matrix product, in pieces of at most `SIMILARITIES` entries.
    """
    piece = max(1, SIMILARITIES // len(bank))
    found = [(part @ bank.T).max(dim=1) for part in rows.split(piece)]
    return torch.cat([best.indices for best in found]), torch.cat([best.values for best in found])


def nearest_distances(
    rows: Float[Tensor, "rows channels"], bank: Float[Tensor, "bank channels"], count: int = 1
) -> tuple[Float[Tensor, "rows count"], Int64[Tensor, "rows count"]]:
    """Euclidean distances of each row to its `count` nearest rows of the bank, rising, and which these are.

    Exact: one matrix product a piece, in the rows' precision, which should be float32: squares of distances
    are differences of nearly equal numbers. Of equal distances either may come first.
    """
    norms = bank.square().sum(dim=1)
    found = [
        _lowest(torch.addmm(norms, part, bank.T, alpha=-2), count)
        for part in rows.split(max(1, SIMILARITIES // len(bank)))
    ]
    values, indices = map(torch.cat, zip(*found, strict=True))
    squares = values + rows.square().sum(dim=1, keepdim=True)
    return squares.clamp(min=0).sqrt(), indices


def _lowest(
    values: Float[Tensor, "rows bank"], count: int
) -> tuple[Float[Tensor, "rows count"], Int64[Tensor, "rows count"]]:
    """The lowest of each row, rising; of one alone, the search for several would take twice as long."""
    best = values.min(dim=1, keepdim=True) if count == 1 else values.topk(count, dim=1, largest=False)
    return best.values, best.indices
