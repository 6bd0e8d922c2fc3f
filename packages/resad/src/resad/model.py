"""ResAD's trained parts (arXiv 2410.20047), from residual maps to likelihoods.

image --> frozen backbone --> features --+
                                         +--> nearest reference --> residuals --> constraintor --> flow
reference images --> the same --> rows --+                             |   ^                        |
                                                  (test time) quantiser + distribution matching     v
                                                                                    L_n, L_a per position
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.models.compute import in_full
from resad.network.constraint import Constraintors
from resad.network.flow import Autocast, Flow, log_likelihoods
from resad.network.positions import Cells, Codes, kept_codes
from resad.network.quantizer import Quantisers
from resad.network.residual import as_maps, as_rows, match_distribution
from resad.recipes import Recipe


@dataclass(frozen=True, slots=True)
class LevelScores:
    """What one level says of every position of a batch."""

    normal: Float[Tensor, "batch height width"]
    """L_n, log-likelihood per channel as a normal position; higher is more normal."""
    probability: Float[Tensor, "batch height width"]
    """Of being anomalous rather than normal, softmax of [L_n, L_a]."""

    def cpu(self) -> "LevelScores":
        """The same on the CPU."""
        return LevelScores(self.normal.cpu(), self.probability.cpu())

    def split(self, images: int) -> list["LevelScores"]:
        """At most so many images at a time."""
        pieces = zip(self.normal.split(images), self.probability.split(images), strict=True)
        return [LevelScores(*piece) for piece in pieces]


def joined(batches: Sequence[Sequence[LevelScores]]) -> list[LevelScores]:
    """The levels of all batches together."""
    return [
        LevelScores(
            torch.cat([level.normal for level in levels]), torch.cat([level.probability for level in levels])
        )
        for levels in zip(*batches, strict=True)
    ]


class ResAD(nn.Module):
    """Quantisers, constraintors and flows; entries are named as in the authors' checkpoints."""

    def __init__(
        self, channels: list[int], recipe: Recipe, residual_scale: Sequence[float] | None = None
    ) -> None:
        """Build the parts; rotations are drawn from the recipe's seed.

        Args:
            residual_scale: what each level's residuals are multiplied with before they come here; None: 1.
        """
        super().__init__()
        self.residual_scale = tuple(residual_scale or [1.0] * len(channels))
        self.residual = recipe.residual
        self.constrains = recipe.constraint != "none"
        self.fdm_alpha = recipe.fdm_alpha
        self.condition = recipe.pos_embed_dim if recipe.conditional else 0
        generator = torch.Generator().manual_seed(recipe.seed)
        self.vq_ops = Quantisers(recipe.num_embeddings, channels)
        self.constraintor = Constraintors("token" if recipe.is_imagebind else "conv", channels)
        self.estimators = nn.ModuleList(
            Flow(width, recipe.coupling_layers, self.condition, recipe.clamp_alpha, generator)
            for width in channels
        )

    def compile_trained(self) -> None:
        """Let torch.compile make what learns faster, each part at its first call."""
        for part in (*self.constraintor.children(), *self.estimators):
            part.compile()

    def positions(self, maps: Float[Tensor, "batch _ height width"]) -> tuple[Codes | None, Cells]:
        """Position codes, and the cell of each row of the maps; None, None where the flows see none."""
        if not self.condition:
            return None, None
        batch, _, height, width = maps.shape
        codes_of = Codes.of if torch.compiler.is_exporting() else kept_codes
        cells = torch.arange(height * width, device=maps.device)
        return codes_of(self.condition, height, width, maps.device), cells.repeat(batch)

    def scaled(self, residuals: list[Float[Tensor, "batch _ _ _"]]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Residuals of the size that the other parts expect."""
        return [scale * maps for scale, maps in zip(self.residual_scale, residuals, strict=True)]

    def constrained(
        self, residuals: list[Float[Tensor, "batch _ _ _"]]
    ) -> list[Float[Tensor, "batch _ _ _"]]:
        """What the flows see: the constraintor's output, or the residuals where there is none."""
        return self.constraintor(residuals) if self.constrains else residuals

    def matched(self, residuals: list[Float[Tensor, "batch _ _ _"]]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Residuals, moved towards the distribution of the normal residuals seen in training."""
        moved = []
        for level, maps in enumerate(residuals):
            quantised = as_maps(self.vq_ops[level](as_rows(maps)), maps)
            moved.append(match_distribution(maps, quantised, self.fdm_alpha))
        return moved

    def estimate(
        self, constrained: list[Float[Tensor, "batch _ _ _"]], autocast: Autocast = nullcontext
    ) -> list[LevelScores]:
        """Likelihoods of every position, from the constraintor's output."""
        scores = []
        for flow, maps in zip(self.estimators, constrained, strict=True):
            normal, anomalous = log_likelihoods(*flow(as_rows(maps), *self.positions(maps), autocast))
            shape = (maps.shape[0], *maps.shape[2:])
            probability = torch.sigmoid(anomalous - normal).reshape(shape)
            scores.append(LevelScores(normal.reshape(shape), probability))
        return scores

    def forward(
        self, residuals: list[Float[Tensor, "batch _ _ _"]], autocast: Autocast = nullcontext
    ) -> list[LevelScores]:
        """The scores of every level at test time; each image by itself.

        Args:
            autocast: enters the arithmetic of constraintors and subnets.
        """
        matched = self.matched(residuals)
        with autocast():
            constrained = self.constrained(matched)
        return self.estimate(in_full(constrained), autocast)
