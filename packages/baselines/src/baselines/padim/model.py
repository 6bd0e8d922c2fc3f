"""PaDiM (arXiv 2011.08785): the features at every position of normal images are one Gaussian."""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.errors import BadValue
from adcommon.training.recipes import is_unchosen
from baselines.features import PatchFeatures, grid_of, make_pyramid
from baselines.padim.gaussian import RunningGaussian, mahalanobis
from baselines.padim.recipes import RECIPES, Recipe

logger = logging.getLogger(__name__)


class PaDiM(nn.Module):
    """Frozen features and a Gaussian for every position."""

    mean: Float[Tensor, "positions channels"]
    whitening: Float[Tensor, "positions channels channels"]

    def __init__(self, features: PatchFeatures, grid: int, channels: Sequence[int]) -> None:
        """An empty model.

        Args:
            features: the frozen network.
            grid: cells along a side of its map.
            channels: of the network that `features` keeps; the model's folder names them.
        """
        super().__init__()
        self.features = features
        self.channels = tuple(channels)
        self.register_buffer("mean", torch.zeros(grid**2, features.channels))
        self.register_buffer("whitening", torch.zeros(grid**2, features.channels, features.channels))

    @torch.no_grad()
    def fit(self, images: Iterable[Float[Tensor, "_ 3 height width"]], recipe: Recipe) -> None:
        """See all normal images once."""
        gaussian = RunningGaussian(len(self.mean), self.mean.shape[1], self.mean.device)
        for batch in images:
            gaussian.update(self.features(batch))
        self.mean = gaussian.mean
        self.whitening = gaussian.whitening(epsilon=recipe.epsilon, prior=recipe.prior)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch grid_height grid_width"]:
        """Distance of every patch from the normal ones at its place; higher is more anomalous."""
        return mahalanobis(self.features(images), self.mean, self.whitening)


def build(
    recipe: Recipe, *, weights: str | None = "pretrained", channels: Sequence[int] | None = None
) -> PaDiM:
    """The empty model of a recipe.

    Args:
        weights: the backbone's: "pretrained", "random" or a file; None: a checkpoint will fill the model.
        channels: to keep; None: drawn by the recipe.
    """
    pyramid = make_pyramid(recipe, weights)
    if channels is None:
        channels = draw_channels(sum(pyramid.channels), recipe)
    features = PatchFeatures(pyramid, upsampling="nearest", kept=channels)
    return PaDiM(features, grid_of(pyramid, recipe.size), channels)


def fitted(recipe: Recipe, given: Collection[str] = ()) -> Recipe:
    """The recipe with all channels of its backbone's maps, if there are fewer than it keeps and nobody chose.

    Args:
        given: fields that the user named.
    """
    if recipe.features is None or not is_unchosen("features", recipe, RECIPES, given):
        return recipe
    with torch.device("meta"):
        total = sum(make_pyramid(recipe, None).channels)
    if recipe.features <= total:
        return recipe
    logger.info("for %s: --features %d", recipe.backbone, total)
    return replace(recipe, features=total)


def draw_channels(total: int, recipe: Recipe) -> list[int]:
    """Which of the network's channels are kept, rising; the paper finds a random choice as good as PCA.

    Raises:
        BadValue: the network has fewer.
    """
    if recipe.features is None:
        return list(range(total))
    if recipe.features > total:
        raise BadValue(
            f"--features {recipe.features}: the maps of '{recipe.backbone}' have {total} channels; expected "
            f"at most --features {total}"
        )
    generator = torch.Generator().manual_seed(recipe.seed)
    drawn = torch.randperm(total, generator=generator)[: recipe.features]
    return sorted(drawn.tolist())
