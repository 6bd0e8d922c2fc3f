"""Pictures of features: a decoder from aligned features to images, like a ResNet-34 run backwards.

For looking only: its pictures show what a reconstruction has kept, and it plays no part in the scores.
"""

from collections import OrderedDict

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.errors import BadValue


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm; the map grows by `scale` between them."""

    def __init__(self, channels_in: int, channels: int, scale: int = 1) -> None:
        """A shortcut is projected where size or channels change."""
        super().__init__()
        self.scale = scale
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if scale != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, bias=False), Grow(scale), nn.BatchNorm2d(channels)
            )

    def forward(self, features: Float[Tensor, "batch _ height width"]) -> Float[Tensor, "batch _ _ _"]:
        """The larger map."""
        grown = grow(F.relu(self.bn1(self.conv1(features))), self.scale)
        return F.relu(self.bn2(self.conv2(grown)) + self.shortcut(features))


class Grow(nn.Module):
    """`grow` as a layer."""

    def __init__(self, scale: int) -> None:
        """Factor of height and width."""
        super().__init__()
        self.scale = scale

    def forward(self, features: Float[Tensor, "batch _ height width"]) -> Float[Tensor, "batch _ _ _"]:
        """The larger map."""
        return grow(features, self.scale)


class VisDecoder(nn.Module):
    """Aligned features of stride 16 or 32 -> normalised images."""

    def __init__(self, channels: int, stride: int = 16) -> None:
        """Start values: normal with deviation 0.01, norms 1 and 0.

        Args:
            channels: of the features.
            stride: of the features, 16 or 32.
        """
        super().__init__()
        if stride not in (16, 32):
            raise BadValue(f"the picture decoder takes features of stride 16 or 32, not {stride}")
        self.layer4 = _stage(channels, 512, 3, 1)
        self.layer3 = _stage(512, 256, 6, 2)
        self.layer2 = _stage(256, 128, 4, 2)
        self.layer1 = _stage(128, 128, 3, stride // 16)
        self.conv1 = nn.Conv2d(128, 128, 7, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(128)
        self.conv2 = nn.Conv2d(128, 3, 1, bias=False)

    def forward(
        self, features: Float[Tensor, "batch channels grid_height grid_width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Images in the normalisation that the decoder was trained with."""
        maps = self.layer1(self.layer2(self.layer3(self.layer4(features))))
        maps = F.relu(self.bn1(self.conv1(grow(maps, 2))))
        return self.conv2(grow(maps, 2))


def grow(features: Float[Tensor, "batch _ height width"], scale: int) -> Float[Tensor, "batch _ _ _"]:
    """Bilinear upsampling, pixel centres at halves."""
    if scale == 1:
        return features
    return F.interpolate(features, scale_factor=float(scale), mode="bilinear", align_corners=False)


def _stage(channels_in: int, channels: int, blocks: int, scale: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, scale)
    rest = (BasicBlock(channels, channels) for _ in range(blocks - 1))
    return nn.Sequential(OrderedDict((str(i), block) for i, block in enumerate((first, *rest))))
