"""The class-conditional denoising U-Net (guided-diffusion's ADM) that the paper fine-tunes."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from realnet.diffusion.network.blocks import Encoder, ResBlock, Shape, Stage
from realnet.network.attention import Attention, GroupNorm, zeroed


class UNet(Encoder):
    """Noisy images, their times and classes -> the noise in them, and where its variance lies."""

    def __init__(self, shape: Shape, *, classes: int) -> None:
        """As `Encoder`; besides it the entries `label_emb`, `output_blocks`, `out`."""
        super().__init__(shape)
        embedding = 4 * shape.width
        self.label_emb = nn.Embedding(classes, embedding)
        channels, skips = self.channels, list(self.skips)
        stages = []
        for level, factor in reversed(list(enumerate(shape.channel_mult))):
            for number in range(shape.depth + 1):
                out = int(factor * shape.width)
                layers: list[nn.Module] = [ResBlock(channels + skips.pop(), out, embedding, shape.dropout)]
                channels = out
                if 2**level in shape.attention_at:
                    layers.append(Attention(channels, shape.head_width))
                if level > 0 and number == shape.depth:
                    layers.append(ResBlock(channels, channels, embedding, shape.dropout, "up"))
                stages.append(Stage(*layers))
        self.output_blocks = nn.ModuleList(stages)
        last = zeroed(nn.Conv2d(channels, 2 * shape.in_channels, 3, padding=1))
        self.out = nn.Sequential(GroupNorm(channels), nn.SiLU(), last)

    def forward(
        self,
        x: Float[Tensor, "batch 3 height width"],
        times: Float[Tensor, " batch"],
        labels: Int64[Tensor, " batch"],
    ) -> Float[Tensor, "batch 6 height width"]:
        """Noise of unit variance, then a number per value: -1 for the least variance, 1 for the largest."""
        embedding = self.embed(times) + self.label_emb(labels)
        hidden, outputs = self.encode(x, embedding)
        for stage in self.output_blocks:
            hidden = stage(torch.cat([hidden, outputs.pop()], dim=1), embedding)
        return self.out(hidden)
