"""Nearest neighbours among feature vectors, in pieces: a bank of any size fits beside a few megabytes."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

SIMILARITIES = 2**24
"""Similarities or distances held at once, 64 MB in float32; more are computed in pieces."""


def nearest(
    rows: Float[Tensor, "*images rows channels"], bank: Float[Tensor, "bank channels"]
) -> tuple[Int64[Tensor, "*images rows"], Float[Tensor, "*images rows"]]:
    """Which row of the bank has the largest cosine similarity to each row, and that similarity.

    All rows have length 1. One matrix product, in pieces of at most `SIMILARITIES` entries.
    """
    found = [(part @ bank.T).max(dim=-1) for part in _pieces(rows, len(bank))]
    return torch.cat([best.indices for best in found], -1), torch.cat([best.values for best in found], -1)


def nearest_distances(
    rows: Float[Tensor, "*images rows channels"], bank: Float[Tensor, "bank channels"], count: int = 1
) -> tuple[Float[Tensor, "*images rows count"], Int64[Tensor, "*images rows count"]]:
    """Euclidean distances of each row to its `count` nearest rows of the bank, rising, and which these are.

    Exact: one matrix product a piece, in the rows' precision, which should be float32: squares of distances
    are differences of nearly equal numbers. Of equal distances either may come first.
    """
    norms = bank.square().sum(dim=1)
    found = [
        _lowest(
            torch.addmm(norms, part.flatten(0, -2), bank.T, alpha=-2).unflatten(0, part.shape[:-1]), count
        )
        for part in _pieces(rows, len(bank))
    ]
    values, indices = (torch.cat(parts, -2) for parts in zip(*found, strict=True))
    squares = values + rows.square().sum(dim=-1, keepdim=True)
    return squares.clamp(min=0).sqrt(), indices


def _pieces(rows: Float[Tensor, "*images rows channels"], bank: int) -> tuple[Tensor, ...]:
    """As many rows of all images at a time as may be compared with a bank of so many.

    How many images an exported graph will be given is not known; its pieces are as large as those of one.
    """
    images = 1 if torch.compiler.is_exporting() else rows.shape[:-2].numel()
    return rows.split(max(1, SIMILARITIES // (images * bank or 1)), dim=-2)


def _lowest(
    values: Float[Tensor, "*rows bank"], count: int
) -> tuple[Float[Tensor, "*rows count"], Int64[Tensor, "*rows count"]]:
    """The lowest of each row, rising; of one alone, the search for several would take twice as long."""
    best = values.min(dim=-1, keepdim=True) if count == 1 else values.topk(count, largest=False)
    return best.values, best.indices
