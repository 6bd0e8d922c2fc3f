"""ReContrast's losses (arXiv 2306.02602): cosine distance of whole feature maps, mining on gradients."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from adcommon.models.anomaly_maps import cosine_distance
from recontrast.model import Outputs

Levels = Sequence[Float[Tensor, "batch _ _ _"]]


def global_cosine(
    targets: Levels, reconstructions: Levels, *, stop_gradient: bool = True
) -> Float[Tensor, ""]:
    """Sum over levels of 1 - cos(vec(target), vec(reconstruction)), averaged over images; in [0, 2 * levels].

    The cosine is taken once per image and level, over channels and positions together.
    """
    if stop_gradient:
        targets = [target.detach() for target in targets]
    cosines = [
        F.cosine_similarity(target.flatten(1), reconstruction.flatten(1))
        for target, reconstruction in zip(targets, reconstructions, strict=True)
    ]
    return torch.stack([(1 - cosine).mean() for cosine in cosines]).sum()


def region_cosine(targets: Levels, reconstructions: Levels) -> Float[Tensor, ""]:
    """Sum over levels of the mean over positions of 1 - cos over channels (reverse distillation's loss)."""
    pairs = zip(targets, reconstructions, strict=True)
    return torch.stack([cosine_distance(target.detach(), rebuilt).mean() for target, rebuilt in pairs]).sum()


def mined_global_cosine(
    targets: Levels, reconstructions: Levels, alpha: float, *, factor: float = 0.0
) -> Float[Tensor, ""]:
    """Global cosine whose gradient is multiplied by `factor` where reconstruction is already easy.

    A position is easy if its distance is below mean + alpha * standard deviation of the level's distances
    over the batch. The value is that of `global_cosine`.

    Args:
        alpha: from `mining_alpha`; at -3 hardly a position is easy, at 1 all but the hardest ones are.
    """
    held = [hold_easy(*pair, alpha, factor=factor) for pair in zip(targets, reconstructions, strict=True)]
    return global_cosine(targets, held)


def hold_easy(
    target: Float[Tensor, "batch channels height width"],
    reconstruction: Float[Tensor, "batch channels height width"],
    alpha: float,
    *,
    factor: float = 0.0,
) -> Float[Tensor, "batch channels height width"]:
    """The reconstruction itself, with its gradient multiplied by `factor` at all easy positions."""
    with torch.no_grad():
        distance = cosine_distance(target, reconstruction)
        easy = distance < distance.mean() + alpha * distance.std()
    fixed = reconstruction.detach()
    damped = fixed if factor == 0 else fixed + factor * (reconstruction - fixed)
    return torch.where(easy[:, None], damped, reconstruction)


def recontrast_loss(outputs: Outputs, alpha: float, *, factor: float = 0.0) -> Float[Tensor, ""]:
    """Half the mined global cosine of either crossed pair; in [0, 6]."""
    frozen_target = mined_global_cosine(outputs.frozen_features, outputs.from_trained, alpha, factor=factor)
    trained_target = mined_global_cosine(outputs.trained_features, outputs.from_frozen, alpha, factor=factor)
    return 0.5 * frozen_target + 0.5 * trained_target


def mining_alpha(
    iteration: int, iterations: int, ramp: float, *, start: float = -3.0, end: float = 1.0
) -> float:
    """Alpha of an iteration, counted from 0: from `start` straight to `end` over `ramp` of all iterations.

    >>> [mining_alpha(iteration, 2000, 0.1) for iteration in (0, 100, 200, 1999)]
    [-3.0, -1.0, 1.0, 1.0]
    """
    if ramp <= 0:
        return end
    return min(start + (end - start) * iteration / (iterations * ramp), end)
