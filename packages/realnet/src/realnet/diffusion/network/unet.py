"""The class-conditional denoising U-Net (guided-diffusion's ADM) that the paper fine-tunes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from realnet.diffusion.network.blocks import Encoder, ResBlock, Stage
from realnet.network.attention import Attention, GroupNorm, zeroed


class UNet(Encoder):
    """Noisy images, their times and classes -> the noise in them, and where its variance lies."""

    def __init__(
        self,
        *,
        classes: int,
        width: int,
        depth: int,
        channel_mult: Sequence[int | float],
        attention_at: Sequence[int],
        head_width: int,
        dropout: float = 0.0,
        in_channels: int = 3,
    ) -> None:
        """As `Encoder`; besides it the entries `label_emb`, `output_blocks`, `out`."""
        super().__init__(
            in_channels=in_channels,
            width=width,
            depth=depth,
            channel_mult=channel_mult,
            attention_at=attention_at,
            head_width=head_width,
            dropout=dropout,
        )
        embedding = 4 * width
        self.label_emb = nn.Embedding(classes, embedding)
        channels, skips = self.channels, list(self.skips)
        stages = []
        for level, factor in reversed(list(enumerate(channel_mult))):
            for number in range(depth + 1):
                layers: list[nn.Module] = [
                    ResBlock(channels + skips.pop(), int(factor * width), embedding, dropout)
                ]
                channels = int(factor * width)
                if 2**level in attention_at:
                    layers.append(Attention(channels, head_width))
                if level > 0 and number == depth:
                    layers.append(ResBlock(channels, channels, embedding, dropout, "up"))
                stages.append(Stage(*layers))
        self.output_blocks = nn.ModuleList(stages)
        self.out = nn.Sequential(
            GroupNorm(channels), nn.SiLU(), zeroed(nn.Conv2d(channels, 2 * in_channels, 3, padding=1))
        )

    def forward(
        self,
        x: Float[Tensor, "batch 3 height width"],
        times: Float[Tensor, " batch"],
        labels: Int64[Tensor, " batch"],
    ) -> Float[Tensor, "batch 6 height width"]:
        """Noise of unit variance, then a number per value: -1 for the smallest variance, 1 for the largest.

        Args:
            x: noisy images; the clean ones have values in [-1, 1].
            times: steps of the full process.
            labels: numbers of the classes.
        """
        embedding = self.embed(times) + self.label_emb(labels)
        hidden, outputs = self.encode(x, embedding)
        for stage in self.output_blocks:
            hidden = stage(torch.cat([hidden, outputs.pop()], dim=1), embedding)
        return self.out(hidden)
