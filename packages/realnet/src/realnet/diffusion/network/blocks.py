"""Parts of guided-diffusion's U-Nets, under its names: time embedding, residual blocks, the encoder half.

Source: Dhariwal and Nichol, Diffusion Models Beat GANs on Image Synthesis (arXiv 2105.05233).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adcommon.models.convolution import Conv2d
from realnet.network.attention import Attention, GroupNorm, zeroed

LONGEST_PERIOD = 10_000
"""Of the waves in a time embedding, steps / 2 pi."""


def time_embedding(times: Float[Tensor, " batch"], width: int) -> Float[Tensor, "batch width"]:
    """Cosines, then sines, of the times at `width` / 2 frequencies, in float32."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=times.device)
    angles = times.float()[:, None] * torch.exp(-math.log(LONGEST_PERIOD) / half * steps)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class ResBlock(nn.Module):
    """Two convolutions beside a skip; the embedding scales and shifts between them.

    At the start it passes the skip only, because its last convolution is zero.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding: int,
        dropout: float,
        resample: Literal["up", "down"] | None = None,
    ) -> None:
        """Entries `in_layers`, `emb_layers`, `out_layers`, `skip_connection`.

        Sides are resampled after the first activation and on the skip; dropout comes before the last
        convolution.
        """
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(
            GroupNorm(in_channels), nn.SiLU(), Conv2d(in_channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out_channels))
        self.out_layers = nn.Sequential(
            GroupNorm(out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zeroed(Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = (
            nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        )

    def forward(
        self, x: Float[Tensor, "batch channels height width"], embedding: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        """The block's output."""
        norm, activation, first = self.in_layers
        hidden = first(self._resampled(activation(norm(x))))
        scale, shift = self.emb_layers(embedding)[:, :, None, None].chunk(2, dim=1)
        norm, *rest = self.out_layers
        hidden = torch.addcmul(shift, norm(hidden), 1 + scale)
        for layer in rest:
            hidden = layer(hidden)
        return self.skip_connection(self._resampled(x)) + hidden

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.resample == "up" else x


class Stage(nn.Sequential):
    """Layers in a row, of which the residual blocks see the embedding."""

    checkpointing = False
    """Compute the layers again in the backward pass instead of keeping what is in between."""

    def forward(  # type: ignore[override]  # the embedding goes along
        self, x: Float[Tensor, "batch channels height width"], embedding: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        """The last layer's output."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(self._run, x, embedding, use_reentrant=False)
        return self._run(x, embedding)

    def _run(self, x: Tensor, embedding: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResBlock) else layer(x)
        return x


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What decides the size of a network."""

    width: int
    """Base width; the embedding has four times as many numbers."""
    depth: int
    """Residual blocks on each level."""
    channel_mult: Sequence[int | float]
    """Channels of each level, finest first, in units of `width`."""
    attention_at: Sequence[int]
    """Levels with attention, by their downsampling: 1, 2, 4 and so on."""
    head_width: int
    """Channels of an attention head."""
    dropout: float = 0.0
    """Of the residual blocks."""
    in_channels: int = 3
    """Of the images."""


class Encoder(nn.Module):
    """The half of a U-Net that goes down, and its middle; the classifier is this half alone."""

    def __init__(self, shape: Shape) -> None:
        """Entries `time_embed`, `input_blocks`, `middle_block`."""
        super().__init__()
        self.width, dropout = shape.width, shape.dropout
        embedding = 4 * shape.width
        self.time_embed = nn.Sequential(
            nn.Linear(shape.width, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        channels = int(shape.channel_mult[0] * shape.width)
        stages = [Stage(nn.Conv2d(shape.in_channels, channels, 3, padding=1))]
        self.skips = [channels]
        for level, factor in enumerate(shape.channel_mult):
            for _ in range(shape.depth):
                layers: list[nn.Module] = [ResBlock(channels, int(factor * shape.width), embedding, dropout)]
                channels = int(factor * shape.width)
                if 2**level in shape.attention_at:
                    layers.append(Attention(channels, shape.head_width))
                stages.append(Stage(*layers))
                self.skips.append(channels)
            if level + 1 < len(shape.channel_mult):
                stages.append(Stage(ResBlock(channels, channels, embedding, dropout, "down")))
                self.skips.append(channels)
        self.input_blocks = nn.ModuleList(stages)
        self.middle_block = Stage(
            ResBlock(channels, channels, embedding, dropout),
            Attention(channels, shape.head_width),
            ResBlock(channels, channels, embedding, dropout),
        )
        self.channels = channels
        """Of the middle block's output."""

    def embed(self, times: Float[Tensor, " batch"]) -> Float[Tensor, "batch embedding"]:
        """What the residual blocks are told of the times."""
        first = self.time_embed[0]
        assert isinstance(first, nn.Linear)
        return self.time_embed(time_embedding(times, self.width).to(first.weight.dtype))

    def encode(
        self, x: Float[Tensor, "batch 3 height width"], embedding: Float[Tensor, "batch embedding"]
    ) -> tuple[Float[Tensor, "batch channels coarse_height coarse_width"], list[Tensor]]:
        """The middle block's output, and the outputs of the stages before it, finest first."""
        outputs = []
        for stage in self.input_blocks:
            x = stage(x, embedding)
            outputs.append(x)
        return self.middle_block(x, embedding), outputs

    def checkpoint_activations(self, enabled: bool = True) -> None:
        """Trade a second forward pass for the memory of the first one's intermediate values."""
        for module in self.modules():
            if isinstance(module, Stage):
                module.checkpointing = enabled
