"""The feature constraintor: squeezes normal residuals onto a thin shell around the origin."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.models.convolution import Conv2d

Maps = Float[Tensor, "batch channels height width"]
Tokens = Float[Tensor, "batch tokens channels"]

EXPANSION = 4
"""Hidden width of the token constraintor, in channels."""
GATE_REDUCTION = 16
"""Hidden width over the gate's bottleneck."""


class ConvConstraintor(nn.Module):
    """3x3 convolution, batch norm, ReLU: for convolutional backbones."""

    def __init__(self, channels: int) -> None:
        """As many channels out as in."""
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, residuals: Maps) -> Maps:
        """Constrained features, never negative."""
        return torch.relu(self.bn(self.conv(residuals)))


class Gate(nn.Module):
    """Squeeze and excite: scales each channel by what its mean over all tokens says."""

    def __init__(self, channels: int) -> None:
        """Two linear layers with a bottleneck."""
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // GATE_REDUCTION)
        self.fc2 = nn.Linear(channels // GATE_REDUCTION, channels)

    def forward(self, tokens: Tokens) -> Tokens:
        """The tokens, scaled by factors between 0 and 1."""
        weights = self.fc2(torch.relu(self.fc1(tokens.mean(dim=1, keepdim=True))))
        return tokens * torch.sigmoid(weights)


class TokenConstraintor(nn.Module):
    """Gated two-layer perceptron on tokens: for ImageBind."""

    def __init__(self, channels: int) -> None:
        """As many channels out as in; the gate sits before the activation."""
        super().__init__()
        self.fc1 = nn.Linear(channels, EXPANSION * channels)
        self.se = Gate(EXPANSION * channels)
        self.fc2 = nn.Linear(EXPANSION * channels, channels)

    def forward(self, residuals: Maps) -> Maps:
        """Constrained features on the same grid."""
        tokens = residuals.flatten(2).transpose(1, 2)
        constrained = self.fc2(nn.functional.gelu(self.se(self.fc1(tokens))))
        return constrained.transpose(1, 2).reshape(residuals.shape)


class Constraintors(nn.Module):
    """One constraintor per level, named `l1_proj`, `l2_proj`, ... as in the authors' checkpoints."""

    def __init__(self, kind: Literal["conv", "token"], channels: list[int]) -> None:
        """Build one for each level's number of channels."""
        super().__init__()
        make = ConvConstraintor if kind == "conv" else TokenConstraintor
        for level, width in enumerate(channels, start=1):
            self.add_module(f"l{level}_proj", make(width))

    def forward(self, residuals: list[Float[Tensor, "batch _ _ _"]]) -> list[Float[Tensor, "batch _ _ _"]]:
        """The constrained maps of all levels."""
        return [layer(level) for layer, level in zip(self.children(), residuals, strict=True)]
