"""One update of the reconstruction, and the schedule around it."""

from collections.abc import Iterable
from contextlib import nullcontext

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from uniad.losses import feature_mse
from uniad.model import Outputs
from uniad.recipes import Recipe


def make_optimiser(
    parameters: Iterable[nn.Parameter], recipe: Recipe, steps_per_epoch: int
) -> tuple[Optimizer, LambdaLR]:
    """The optimiser over all parameters, norms and embeddings too, and its schedule, stepped per update."""
    parameters = list(parameters)
    betas, decay = (recipe.adam_beta1, recipe.adam_beta2), recipe.weight_decay
    fused = parameters[0].device.type in ("cpu", "cuda")  # one pass over memory instead of eight
    optimiser: Optimizer
    match recipe.optimiser:
        case "adamw":
            optimiser = AdamW(parameters, lr=recipe.lr, betas=betas, weight_decay=decay, fused=fused)
        case "adam":
            optimiser = Adam(parameters, lr=recipe.lr, betas=betas, weight_decay=decay, fused=fused)
        case _:
            optimiser = SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=decay)
    return optimiser, LambdaLR(optimiser, lambda step: lr_factor(step, recipe, steps_per_epoch))


def lr_factor(step: int, recipe: Recipe, steps_per_epoch: int = 1) -> float:
    """Factor of the learning rate in a step, counted from 0."""
    if recipe.lr_milestone is not None:
        assert recipe.iterations is not None  # checked by the recipe
        return recipe.lr_gamma if step >= int(recipe.lr_milestone * recipe.iterations) else 1.0
    epoch = step // steps_per_epoch
    # Faithful: the reference steps its schedule with the number of the epoch just done, so each drop comes
    # one epoch late: with steps of 800, epoch 800 still has the full rate.
    return recipe.lr_gamma ** (max(epoch - 1, 0) // recipe.lr_step)


def update(
    reconstruction: nn.Module,
    features: Float[Tensor, "batch channels grid_height grid_width"],
    optimiser: Optimizer,
    accelerator: Accelerator,
    *,
    clip_norm: float,
    loss_weight: float = 1.0,
    noise: Float[Tensor, "batch tokens channels"] | None = None,
    parts: int = 1,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """One optimiser step; returns the loss before it and the norm of the gradients before clipping.

    Args:
        features: clean; they are also what is to be rebuilt.
        noise: standard normal numbers for the jitter; None: drawn.
        parts: into which the batch is divided, whose gradients add up to that of the batch.
    """
    if noise is None and parts > 1:  # as for the whole batch
        noise = torch.randn_like(features.flatten(2).transpose(1, 2), memory_format=torch.contiguous_format)
    pieces = features.chunk(parts)
    noises = [None] * len(pieces) if noise is None else noise.chunk(parts)
    total = features.new_zeros(())
    optimiser.zero_grad(set_to_none=True)
    for number, (piece, own) in enumerate(zip(pieces, noises, strict=True), start=1):
        # Several processes average their gradients once, with the last part's.
        with accelerator.no_sync(reconstruction) if number < len(pieces) else nullcontext():
            with accelerator.autocast():
                rebuilt = reconstruction(piece, own)
            share = loss_weight * len(piece) / len(features)
            loss = share * feature_mse(Outputs(piece, rebuilt.float()))
            accelerator.backward(loss)
        total += loss.detach()
    limit = clip_norm or float("inf")
    norm = accelerator.clip_grad_norm_(reconstruction.parameters(), limit)
    optimiser.step()
    return total, norm


def seed_step(seed: int, rank: int, step: int) -> None:
    """Seed the draws of one step on one process, so that a resumed run draws what an unbroken one would.

    The reference gives all processes the same noise and dropout; here each has its own.
    """
    torch.manual_seed(int(np.random.SeedSequence([seed, rank, step]).generate_state(1, np.uint64)[0] >> 1))
