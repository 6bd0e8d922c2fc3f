"""ReContrast's losses (arXiv 2306.02602): cosine distance of whole feature maps, mining on gradients."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adcommon.models.anomaly_maps import cosine_distance
from recontrast.model import Outputs
from recontrast.recipes import Recipe

Levels = Sequence[Float[Tensor, "batch _ _ _"]]
Criterion = Callable[[Outputs], Float[Tensor, ""]]
Kind = Literal["global", "region"]

EPS = 1e-8
"""Shortest length that is divided by."""


class Sums(NamedTuple):
    """What both cosines are made of: sums over the channels of a level, one for each position.

    Mining and loss read the features once, and to hold a position's gradient is to hold it here.
    """

    products: Float[Tensor, "batch height width"]
    target_norms: Float[Tensor, "batch height width"]
    rebuilt_norms: Float[Tensor, "batch height width"]

    @classmethod
    def of(
        cls,
        target: Float[Tensor, "batch channels height width"],
        rebuilt: Float[Tensor, "batch channels height width"],
    ) -> "Sums":
        """Scalar products of target and reconstruction, and lengths of both."""
        lengths = (torch.linalg.vector_norm(level, dim=1) for level in (target, rebuilt))
        return cls((target * rebuilt).sum(dim=1), *lengths)

    def distance(self) -> Float[Tensor, " batch"]:
        """1 - cosine of whole maps."""
        target, rebuilt = (torch.linalg.vector_norm(norms, dim=(1, 2)) for norms in self[1:])
        return 1 - self.products.sum(dim=(1, 2)) / (target.clamp(min=EPS) * rebuilt.clamp(min=EPS))

    def distances(self) -> Float[Tensor, "batch height width"]:
        """1 - cosine of every position by itself."""
        return 1 - self.products / (self.target_norms.clamp(min=EPS) * self.rebuilt_norms.clamp(min=EPS))

    @torch.no_grad()
    def easy(self, alpha: float) -> Bool[Tensor, "batch height width"]:
        """Positions whose own distance is below mean + alpha * standard deviation over the batch."""
        distance = self.distances()
        return distance < distance.mean() + alpha * distance.std()

    def hold_easy(self, alpha: float, factor: float = 0.0) -> "Sums":
        """The same values, with the gradient multiplied by `factor` at all easy positions."""
        easy = self.easy(alpha)
        return Sums(*(torch.where(easy, _damped(sums, factor), sums) for sums in self))


def global_cosine(
    targets: Levels, reconstructions: Levels, *, stop_gradient: bool = True
) -> Float[Tensor, ""]:
    """Sum over levels of 1 - cos(vec(target), vec(reconstruction)), averaged over images; in [0, 2 * levels].

    The cosine is taken once per image and level, over channels and positions together.
    """
    if stop_gradient:
        targets = [target.detach() for target in targets]
    pairs = zip(targets, reconstructions, strict=True)
    return torch.stack([Sums.of(*pair).distance().mean() for pair in pairs]).sum()


def region_cosine(targets: Levels, reconstructions: Levels) -> Float[Tensor, ""]:
    """Sum over levels of the mean over positions of 1 - cos over channels (reverse distillation's loss)."""
    pairs = zip(targets, reconstructions, strict=True)
    return torch.stack([cosine_distance(target.detach(), rebuilt).mean() for target, rebuilt in pairs]).sum()


def mined_cosine(
    targets: Levels,
    reconstructions: Levels,
    alpha: float,
    *,
    factor: float = 0.0,
    kind: Kind = "global",
    stop_gradient: bool = True,
) -> Float[Tensor, ""]:
    """Global or region cosine whose gradient is multiplied by `factor` where reconstruction is already easy.

    A position is easy if its distance is below mean + alpha * standard deviation of the level's distances
    over the batch. The value is that of `global_cosine` or `region_cosine`.

    Args:
        alpha: from `mining_alpha`; at -3 hardly a position is easy, at 1 all but the hardest ones are.
    """
    if stop_gradient:
        targets = [target.detach() for target in targets]
    pairs = zip(targets, reconstructions, strict=True)
    held = [Sums.of(*pair).hold_easy(alpha, factor) for pair in pairs]
    return torch.stack(
        [(sums.distance() if kind == "global" else sums.distances()).mean() for sums in held]
    ).sum()


def recontrast_loss(
    outputs: Outputs,
    alpha: float,
    *,
    factor: float = 0.0,
    kind: Kind = "global",
    stop_gradient: bool = True,
) -> Float[Tensor, ""]:
    """Half the mined cosine of either crossed pair; in [0, 6]; the defaults are the paper's."""
    mined = partial(mined_cosine, alpha=alpha, factor=factor, kind=kind, stop_gradient=stop_gradient)
    frozen_target = mined(outputs.frozen_features, outputs.from_trained)
    trained_target = mined(outputs.trained_features, outputs.from_frozen)
    return 0.5 * frozen_target + 0.5 * trained_target


def criterion_of(recipe: Recipe, iteration: int) -> Criterion:
    """The loss of a recipe at an iteration, counted from 0."""
    return partial(
        recontrast_loss,
        alpha=mining_alpha(iteration, recipe.iterations, recipe.mining_ramp),
        factor=recipe.mining_factor,
        kind=recipe.loss,
        stop_gradient=recipe.stop_gradient,
    )


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


def _damped(values: Float[Tensor, "*shape"], factor: float) -> Float[Tensor, "*shape"]:
    fixed = values.detach()
    return fixed if factor == 0 else fixed + factor * (values - fixed)
