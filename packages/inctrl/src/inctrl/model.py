"""The trained part of InCTRL: an adapter and two heads on the residuals of frozen features (section 3)."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from inctrl.recipes import Recipe

SHARPNESS = 100.0
"""Of the weights of ranks: with the paper's learning rate they move from a mean to a maximum in 100 steps."""
PARTS = ("text", "image", "patch")
GAIN = 10.0
"""How steep the score of relative residuals, which lie in [0, 1], begins."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the network says of a batch; all in (0, 1) or [0, 1], higher is more anomalous."""

    final: Float[Tensor, " batch"]
    """The image score: mean of `holistic` and `peak`; without patches `holistic`."""
    image: Float[Tensor, " batch"]
    """s_i, of the image residual alone."""
    holistic: Float[Tensor, " batch"]
    """s_h, of the map with both scalars added, or of the relative map alone."""
    peak: Float[Tensor, " batch"]
    """The largest value of the patch residual map."""
    token_residual: Float[Tensor, "batch embed"]
    """F: adapted references minus adapted query."""


class Adapter(nn.Module):
    """A bottleneck on image tokens, without biases and without a residual connection."""

    def __init__(self, embed: int, reduction: int = 4) -> None:
        """Default initialisation of torch, as everywhere in this network."""
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(embed, embed // reduction, bias=False),
            nn.ReLU(),
            nn.Linear(embed // reduction, embed, bias=False),
            nn.ReLU(),
        )

    def forward(self, tokens: Float[Tensor, "*batch embed"]) -> Float[Tensor, "*batch embed"]:
        """Tokens of the same width, none of them negative."""
        return self.fc(tokens)


class Head(nn.Module):
    """Three linear layers with batch norm between them, ending in a probability."""

    def __init__(self, inputs: int) -> None:
        """`bn1` is never used; checkpoints of the reference have it."""
        super().__init__()
        self.bn1 = nn.BatchNorm1d(inputs).requires_grad_(False)
        self.projection1 = nn.Linear(inputs, 128)
        self.bn2 = nn.BatchNorm1d(128)
        self.projection2 = nn.Linear(128, 64)
        self.bn3 = nn.BatchNorm1d(64)
        self.projection3 = nn.Linear(64, 1)

    def forward(self, values: Float[Tensor, "batch inputs"]) -> Float[Tensor, " batch"]:
        """In (0, 1)."""
        hidden = self.bn2(F.relu(self.projection1(values)))
        hidden = self.bn3(F.relu(self.projection2(hidden)))
        return torch.sigmoid(self.projection3(hidden))[:, 0]


class OrderedHead(nn.Module):
    """A learned average of a map's values by their rank.

    No weight is negative: larger residuals never lower the score, on whatever product. The three layers of
    `Head` can, and do on products that they were not trained on.
    """

    def __init__(self, inputs: int) -> None:
        """Begins with the mean of all values."""
        super().__init__()
        self.ranks = nn.Parameter(torch.zeros(inputs))
        self.gain = nn.Parameter(torch.tensor(GAIN))
        self.middle = nn.Parameter(torch.tensor(0.5))

    def forward(self, values: Float[Tensor, "batch inputs"]) -> Float[Tensor, " batch"]:
        """In (0, 1)."""
        average = values.sort(dim=1).values @ (SHARPNESS * self.ranks).softmax(dim=0)
        return torch.sigmoid(F.softplus(self.gain) * (average - self.middle))


class InCTRL(nn.Module):
    """Scores of queries from frozen features; names of entries are those of the authors' checkpoints."""

    def __init__(
        self, embed: int, patches: int, *, relative: bool = False, parts: Collection[str] = PARTS
    ) -> None:
        """A network for tokens of `embed` numbers and maps of `patches` cells.

        Args:
            relative: maps are relative residuals, and s_h is made of their values by rank alone: of how many
                patches differ how much, not of where. Not in the paper.
            parts: what the score is made of, see the recipe; the others are neither added nor trained.
        """
        super().__init__()
        self.relative, self.parts = relative, parts
        self.adapter = Adapter(embed)
        self.diff_head = OrderedHead(patches) if relative else Head(patches)
        self.diff_head_ref = Head(embed)
        if "image" not in parts:
            self.adapter.requires_grad_(False)
            self.diff_head_ref.requires_grad_(False)

    def forward(
        self,
        tokens: Float[Tensor, "batch embed"],
        reference_tokens: Float[Tensor, "rows shots embed"],
        residual_map: Float[Tensor, "batch patches"],
        text: Float[Tensor, " batch"] | None,
    ) -> Outputs:
        """One score per query.

        Args:
            tokens: f(x).
            reference_tokens: f(r); one row for all queries, or one for each.
            residual_map: M, see `inctrl.network.residual.patch_residual`.
            text: s_a; None where there is no text tower: it is left out of the sum.
        """
        token_residual = self.adapter(reference_tokens).mean(dim=1) - self.adapter(tokens)
        image = self.diff_head_ref(token_residual)
        has_patches = "patch" in self.parts
        holistic_map = residual_map if has_patches else torch.zeros_like(residual_map)
        if not self.relative and "image" in self.parts:
            holistic_map = holistic_map + image[:, None]
        if not self.relative and "text" in self.parts and text is not None:
            holistic_map = holistic_map + text[:, None]
        holistic, peak = self.diff_head(holistic_map), residual_map.amax(dim=1)
        final = (holistic + peak) / 2 if has_patches else holistic
        return Outputs(final, image, holistic, peak, token_residual)


def build(recipe: Recipe, embed: int, patches: int) -> InCTRL:
    """The untrained network of a recipe, for tokens of `embed` numbers and maps of `patches` cells."""
    return InCTRL(embed, patches, relative=recipe.relative, parts=recipe.parts)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that the optimiser moves."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
