"""One update of the reconstruction, and the schedule around it."""

from collections.abc import Iterable

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
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """One optimiser step; returns the loss before it and the norm of the gradients before clipping.

    Args:
        features: clean; they are also what is to be rebuilt.
        noise: standard normal numbers for the jitter; None: drawn.
    """
    with accelerator.autocast():
        rebuilt = reconstruction(features, noise)
    loss = loss_weight * feature_mse(Outputs(features, rebuilt.float()))
    optimiser.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    limit = clip_norm or float("inf")
    norm = accelerator.clip_grad_norm_(reconstruction.parameters(), limit)
    optimiser.step()
    return loss.detach(), norm


def seed_step(seed: int, rank: int, step: int) -> None:
    """Seed the draws of one step on one process, so that a resumed run draws what an unbroken one would.

    The reference gives all processes the same noise and dropout; here each has its own.
    """
    torch.manual_seed(int(np.random.SeedSequence([seed, rank, step]).generate_state(1, np.uint64)[0] >> 1))
