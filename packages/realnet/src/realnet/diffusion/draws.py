"""Random numbers that depend on named facts alone, so that what was stopped goes on as if it had not been."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def seed_step(seed: int, rank: int, step: int) -> None:
    """Seed the draws of one training step on one process: times, noise and dropout."""
    torch.manual_seed(_number(seed, rank, step))


def generator(*facts: int) -> torch.Generator:
    """A generator on the CPU, whose numbers are the same on every device."""
    return torch.Generator().manual_seed(_number(*facts))


def normal(
    shape: Sequence[int], draws: torch.Generator, device: torch.device | str
) -> Float[Tensor, "*shape"]:
    """Standard normal numbers, drawn on the CPU."""
    return torch.randn(*shape, generator=draws).to(device)


def _number(*facts: int) -> int:
    return int(np.random.SeedSequence(facts).generate_state(1, np.uint64)[0] >> 1)
