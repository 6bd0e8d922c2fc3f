"""ReContrast's losses (arXiv 2306.02602): cosine distance of whole feature maps, mining on gradients."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adcommon.errors import unknown_name
from adcommon.methods import installed
from adcommon.models.anomaly_maps import cosine_distance
from recontrast.model import Outputs
from recontrast.recipes import Recipe

Levels = Sequence[Float[Tensor, "batch _ _ _"]]
Criterion = Callable[[Outputs], Float[Tensor, ""]]
Kind = Literal["global", "region"]
Loss = Callable[[Levels, Levels], Float[Tensor, ""]]
"""Of targets and their reconstructions, at three levels; the scalar that is minimised."""

GROUP = "recontrast.losses"
"""Entry points of the losses that other packages bring: a `Loss` by name."""
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


LOSSES: dict[str, Loss] = {"global": global_cosine, "region": region_cosine}
"""What a recipe's `loss` names, besides the entry points of `GROUP`; a script may add its own."""


def loss_of(name: str) -> Loss:
    """The loss of a name.

    Raises:
        UnknownName: it is not in `LOSSES`, and no installed package brings it.
    """
    if name not in LOSSES:
        points = installed(GROUP)
        if name not in points:
            raise unknown_name("loss", name, [*LOSSES, *points])
        LOSSES[name] = points[name].load()
    return LOSSES[name]


def mined(
    loss: Loss,
    targets: Levels,
    reconstructions: Levels,
    alpha: float,
    *,
    factor: float = 0.0,
    stop_gradient: bool = True,
) -> Float[Tensor, ""]:
    """Any loss, whose gradient is multiplied by `factor` where reconstruction is easy, as in `mined_cosine`.

    What is easy is said by the cosine distance of a position, whatever the loss; its value stays.
    """
    if stop_gradient:
        targets = [target.detach() for target in targets]
    held: list[tuple[Tensor, Tensor]] = []
    for target, rebuilt in zip(targets, reconstructions, strict=True):
        easy = Sums.of(target, rebuilt).easy(alpha).unsqueeze(1)
        first, second = (torch.where(easy, _damped(level, factor), level) for level in (target, rebuilt))
        held.append((first, second))
    return loss([target for target, _ in held], [rebuilt for _, rebuilt in held])


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
    loss: Loss | None = None,
    stop_gradient: bool = True,
) -> Float[Tensor, ""]:
    """Half the mined cosine of either crossed pair; in [0, 6]; the defaults are the paper's.

    Args:
        loss: takes the place of the cosine of `kind`.
    """
    distance = partial(mined_cosine, kind=kind) if loss is None else partial(mined, loss)
    held = partial(distance, alpha=alpha, factor=factor, stop_gradient=stop_gradient)
    frozen_target = held(outputs.frozen_features, outputs.from_trained)
    trained_target = held(outputs.trained_features, outputs.from_frozen)
    return 0.5 * frozen_target + 0.5 * trained_target


def criterion_of(recipe: Recipe, iteration: int) -> Criterion:
    """The loss of a recipe at an iteration, counted from 0.

    Raises:
        UnknownName: as `loss_of`.
    """
    criterion = partial(
        recontrast_loss,
        alpha=mining_alpha(iteration, recipe.iterations, recipe.mining_ramp),
        factor=recipe.mining_factor,
        stop_gradient=recipe.stop_gradient,
    )
    if recipe.loss == "global" or recipe.loss == "region":  # mining and loss read the features once
        return partial(criterion, kind=recipe.loss)
    return partial(criterion, loss=loss_of(recipe.loss))


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
