"""Nearest neighbours among feature vectors, in pieces: a bank of any size fits beside a few megabytes."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from adcommon.models.compute import full_precision

SIMILARITIES = 2**24
"""Similarities or distances held at once, 64 MB in float32; more are computed in pieces."""
IN_CACHE = 2**20
"""The same on a CPU, in whose cache they stay, if these are of `ROWS` rows: fewer make products slow."""
ROWS = 256
GROUP = 64
"""Values of which a CPU first finds the highest, before it looks for its place."""


def nearest(
    rows: Float[Tensor, "*images rows channels"], bank: Float[Tensor, "bank channels"]
) -> tuple[Int64[Tensor, "*images rows"], Float[Tensor, "*images rows"]]:
    """Which row of the bank has the largest cosine similarity to each row, and that similarity.

    All rows have length 1. One matrix product in full precision, in pieces of at most `SIMILARITIES`.
    """
    with full_precision(rows.device):
        found = [_highest(part @ bank.T) for part in _pieces(rows, len(bank))]
    values, indices = (torch.cat(parts, -1).reshape(rows.shape[:-1]) for parts in zip(*found, strict=True))
    return indices, values


def nearest_distances(
    rows: Float[Tensor, "*images rows channels"], bank: Float[Tensor, "bank channels"], count: int = 1
) -> tuple[Float[Tensor, "*images rows count"], Int64[Tensor, "*images rows count"]]:
    """Euclidean distances of each row to its `count` nearest rows of the bank, rising, and which these are.

    Exact: one matrix product a piece, in the rows' precision, whatever autocast and TF32 say: squares of
    distances are differences of nearly equal numbers. Of equal distances either may come first.
    """
    norms = bank.square().sum(dim=1)
    with full_precision(rows.device):
        products = (
            torch.addmm(-norms, part.flatten(0, -2), bank.T, alpha=2).unflatten(0, part.shape[:-1])
            for part in _pieces(rows, len(bank))
        )
        found = [_best(values, count) for values in products]
    shape = (*rows.shape[:-1], count)
    values, indices = (torch.cat(parts, -2).reshape(shape) for parts in zip(*found, strict=True))
    squares = rows.square().sum(dim=-1, keepdim=True) - values
    return squares.clamp(min=0).sqrt(), indices


def _pieces(rows: Float[Tensor, "*images rows channels"], bank: int) -> tuple[Tensor, ...]:
    """As many rows of all images at a time as may be compared with a bank of so many.

    How many images an exported graph will be given is not known: its pieces are as large as those of one, and
    rows that are not told apart by images stay together.
    """
    held = SIMILARITIES // (bank or 1)
    if torch.compiler.is_exporting():
        return rows.split(max(1, held), dim=-2) if rows.dim() > 2 else (rows,)
    if rows.device.type == "cpu":
        held = min(held, max(ROWS, IN_CACHE // (bank or 1)))
    return rows.flatten(0, -2).split(max(1, held))


def _best(
    values: Float[Tensor, "*rows bank"], count: int
) -> tuple[Float[Tensor, "*rows count"], Int64[Tensor, "*rows count"]]:
    """The highest of each row, falling; of one alone, the search for several would take twice as long."""
    if count == 1:
        value, index = _highest(values)
        return value[..., None], index[..., None]
    best = values.topk(count)
    return best.values, best.indices


def _highest(values: Float[Tensor, "*rows bank"]) -> tuple[Float[Tensor, "*rows"], Int64[Tensor, "*rows"]]:
    """The highest of each row and its place, the first of equals.

    A CPU finds the highest of a group many at a time, but a place only one by one: so groups first.
    """
    size = math.gcd(values.shape[-1], GROUP)
    count = values.shape[-1] // size
    if size < GROUP // 4 or count < 4 or values.device.type != "cpu" or torch.compiler.is_exporting():
        best = values.max(dim=-1)
        return best.values, best.indices
    groups = values.unflatten(-1, (count, size))
    value, group = groups.amax(dim=-1).max(dim=-1)
    first = torch.arange(0, value.numel() * count, count).view_as(group)
    inside = groups.flatten(0, -2).index_select(0, (first + group).flatten()).argmax(dim=-1)
    return value, group * size + inside.view_as(group)
