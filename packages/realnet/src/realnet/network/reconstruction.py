"""Networks that rebuild the features of a normal image, one per block (section 3.3 of the paper).

A U-Net as in the diffusion models, without time and with one convolution per residual block; at the start it
rebuilds zeros. `SimpleReconstruction` is the authors' small alternative.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from realnet.network.attention import Attention, GroupNorm, zeroed
from realnet.network.convolution import Conv2d, ConvTranspose2d

Map = Float[Tensor, "batch _channels _height _width"]


class Reconstruction(nn.Module):
    """U-Net from a block's features to features of the same shape."""

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        res_blocks: int = 2,
        channel_mult: Sequence[int] = (1, 2, 4),
        attention_mult: Sequence[int] = (2, 4),
        head_width: int = 64,
    ) -> None:
        """Both sides of the features are multiples of 2 ** (len(channel_mult) - 1).

        Args:
            width: what `channel_mult` multiplies, a multiple of 32.
            res_blocks: per level; one more on the way up.
            attention_mult: downsampling factors (1, 2, 4 ...) at which positions attend to each other; the
                coarsest level does so between its two middle blocks in any case.
        """
        super().__init__()

        def attention(now: int, level: int) -> list[nn.Module]:
            return [Attention(now, head_width)] if 2**level in attention_mult else []

        coarsest = len(channel_mult) - 1
        now = int(channel_mult[0] * width)
        skips = [now]
        self.input_blocks = nn.ModuleList([Conv2d(channels, now, 3, padding=1)])
        for level, factor in enumerate(channel_mult):
            for _ in range(res_blocks):
                block = ResBlock(now, factor * width)
                now = factor * width
                self.input_blocks.append(nn.Sequential(block, *attention(now, level)))
                skips.append(now)
            if level < coarsest:
                self.input_blocks.append(DownBlock(now))
                skips.append(now)

        self.middle_block = nn.Sequential(ResBlock(now, now), Attention(now, head_width), ResBlock(now, now))

        self.output_blocks = nn.ModuleList()
        for level in range(coarsest, -1, -1):
            for position in range(res_blocks + 1):
                block = ResBlock(now + skips.pop(), channel_mult[level] * width)
                now = channel_mult[level] * width
                up = [UpBlock(now)] if level and position == res_blocks else []
                self.output_blocks.append(nn.Sequential(block, *attention(now, level), *up))

        self.out = nn.Sequential(GroupNorm(now), nn.SiLU(), zeroed(Conv2d(now, channels, 3, padding=1)))

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """What the features of a normal image would be."""
        skips = []
        x = features
        for down in self.input_blocks:
            x = down(x)
            skips.append(x)
        x = self.middle_block(x)
        for up in self.output_blocks:
            x = up(torch.cat([x, skips.pop()], dim=1))
        return self.out(x)


class ResBlock(nn.Module):
    """Norm, SiLU, one convolution, beside the input itself (or a 1x1 convolution of it)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        """Entries `in_layers.0`, `in_layers.2`, and `skip_connection` if the width changes."""
        super().__init__()
        self.in_layers = _norm_and_convolution(channels, out_channels)
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Map) -> Map:
        """The same positions, `out_channels` of them."""
        return self.skip_connection(x) + self.in_layers(x)


class DownBlock(nn.Module):
    """A residual block whose branches are averaged over squares of 2x2 first."""

    def __init__(self, channels: int) -> None:
        """Entries `in_layers.0`, `in_layers.2`."""
        super().__init__()
        self.in_layers = _norm_and_convolution(channels, channels)

    def forward(self, x: Map) -> Map:
        """Half the height and width."""
        norm, activation, convolution = self.in_layers
        return F.avg_pool2d(x, 2) + convolution(F.avg_pool2d(activation(norm(x)), 2))


class UpBlock(nn.Module):
    """A residual block whose branches are doubled in size by transposed convolutions of their own."""

    def __init__(self, channels: int) -> None:
        """Entries `in_layers.0`, `in_layers.2`, `h_upd.conv`, `x_upd.conv`."""
        super().__init__()
        self.in_layers = _norm_and_convolution(channels, channels)
        self.h_upd = nn.Sequential(OrderedDict(conv=_doubling(channels, channels)))
        self.x_upd = nn.Sequential(OrderedDict(conv=_doubling(channels, channels)))

    def forward(self, x: Map) -> Map:
        """Twice the height and width."""
        norm, activation, convolution = self.in_layers
        return self.x_upd(x) + convolution(self.h_upd(activation(norm(x))))


class SimpleReconstruction(nn.Module):
    """The authors' alternative: two poolings, a residual stack, two transposed convolutions."""

    def __init__(self, channels: int, residual_layers: int = 2) -> None:
        """Both sides of the features are multiples of 4; the residual stack has 4 x `channels`."""
        super().__init__()
        self.block1 = _double_convolution(channels)
        self.block2 = _double_convolution(2 * channels)
        self._residual_stack = ResidualStack(4 * channels, 2 * channels, residual_layers)
        self.upblock1 = _doubling(8 * channels, 2 * channels)
        self.upblock2 = _doubling(4 * channels, channels)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """What the features of a normal image would be."""
        half = F.avg_pool2d(self.block1(features), 2)
        quarter = F.avg_pool2d(self.block2(half), 2)
        x = F.relu(self.upblock1(torch.cat([self._residual_stack(quarter), quarter], dim=1)))
        return self.upblock2(torch.cat([x, half], dim=1))


class ResidualStack(nn.Module):
    """Residual layers of two convolutions without biases, ReLU before each and after the last."""

    def __init__(self, channels: int, hidden: int, layers: int) -> None:
        """Entries `_layers.N._block.1` and `.3`; `hidden` lie between the 3x3 and the 1x1 convolution."""
        super().__init__()
        self._layers = nn.ModuleList(_ResidualLayer(channels, hidden) for _ in range(layers))

    def forward(self, x: Map) -> Map:
        """The same shape, nowhere negative."""
        for layer in self._layers:
            x = layer(x)
        return F.relu(x)


class _ResidualLayer(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self._block = nn.Sequential(
            nn.ReLU(),
            Conv2d(channels, hidden, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Map) -> Map:
        return x + self._block(x)


def _norm_and_convolution(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(GroupNorm(channels), nn.SiLU(), Conv2d(channels, out_channels, 3, padding=1))


def _doubling(channels: int, out_channels: int) -> ConvTranspose2d:
    """A transposed convolution that doubles height and width."""
    return ConvTranspose2d(channels, out_channels, 4, stride=2, padding=1)


def _double_convolution(channels: int) -> nn.Sequential:
    """Two convolutions with instance norm; the second doubles the channels."""
    return nn.Sequential(
        Conv2d(channels, channels, 3, padding=1),
        nn.InstanceNorm2d(channels),
        nn.ReLU(),
        Conv2d(channels, 2 * channels, 3, padding=1),
        nn.InstanceNorm2d(2 * channels),
        nn.ReLU(),
    )
