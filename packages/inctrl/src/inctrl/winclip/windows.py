"""WinCLIP's windows: squares of patches at stride one, and the way from window scores back to patches."""

from functools import cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

SIDES = (2, 3)
"""Sides of the small and the middle windows, in patches."""


@cache
def window_patches(grid: tuple[int, int], side: int) -> Int64[Tensor, "windows patches_of_one"]:
    """The patches of each window, row-major as the windows are; patches are counted from 0."""
    height, width = grid
    patches = torch.arange(height * width).view(height, width)
    return patches.unfold(0, side, 1).unfold(1, side, 1).reshape(-1, side * side)


def harmonic_map(
    scores: Float[Tensor, "batch windows"], grid: tuple[int, int], side: int
) -> Float[Tensor, "batch patches"]:
    """The harmonic mean, at each patch, of the scores of all windows that cover it; in float64.

    m(p) = n_p / sum of 1 / a over the n_p windows; 0 where one of them has the score 0.

    Source: WinCLIP (arXiv 2303.14814), section 4.3.
    """
    windows = window_patches(grid, side).to(scores.device)
    cover = torch.zeros(len(windows), grid[0] * grid[1], dtype=torch.float64, device=scores.device)
    cover.scatter_(1, windows, 1.0)
    values = scores.double()
    zero = values == 0
    total = (
        torch.where(zero, 0.0, 1 / torch.where(zero, 1.0, values)) @ cover
    )  # 0 times infinity is no number
    return torch.where(zero.double() @ cover > 0, 0.0, cover.sum(dim=0) / total)
