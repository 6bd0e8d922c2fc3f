"""The decoder: the mirrored backbone, from the code to three feature levels, with heads for either encoder.

Each stage doubles the resolution in its first block with a transposed convolution (arXiv 2201.10703).
"""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from adcommon.models.convolution import Conv2d
from recontrast.network.bottleneck import Plan, initialise_convolutions


class Decoder(nn.Module):
    """Code -> reconstructed features of three levels, twice: with the heads of either encoder."""

    def __init__(
        self, channels: Sequence[int], plan: Plan, activation: Literal["relu", "gelu"] = "relu"
    ) -> None:
        """Stages as the backbone's `plan` says.

        Args:
            channels: of the three levels, fine to coarse.
            activation: inside the blocks; gelu is the exact (erf) form.
        """
        super().__init__()
        fine, middle, coarse = channels
        act = nn.ReLU(inplace=True) if activation == "relu" else nn.GELU()
        self.layer1 = _stage(2 * coarse, coarse, plan.blocks[0], plan, act)
        self.layer2 = _stage(coarse, middle, plan.blocks[1], plan, act)
        self.layer3 = _stage(middle, fine, plan.blocks[2], plan, act)
        self.out1, self.out2, self.out3 = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for _ in range(2):  # set by set: seeded initialisation draws in this order
            for heads, width in zip((self.out1, self.out2, self.out3), channels, strict=True):
                heads.append(nn.Conv2d(width, width, 1))
        initialise_convolutions(self)

    def forward(
        self, code: Float[Tensor, "both _ _ _"]
    ) -> tuple[list[Float[Tensor, "half _ _ _"]], list[Float[Tensor, "half _ _ _"]]]:
        """Reconstruct both halves of a batch, each with its own heads.

        Args:
            code: its first half was made from the trained encoder, its second half from the frozen one.

        Returns:
            Reconstructions of the frozen features, from the first half, and of the trained features, from the
            second; each of three levels, fine to coarse.
        """
        coarse = self.layer1(code)
        middle = self.layer2(coarse)
        fine = self.layer3(middle)
        halves = zip(*(level.unflatten(0, (2, -1)) for level in (fine, middle, coarse)), strict=True)
        sets = zip(self.out1, self.out2, self.out3, strict=True)
        from_trained, from_frozen = (
            [head(level) for head, level in zip(heads, levels, strict=True)]
            for heads, levels in zip(sets, halves, strict=True)
        )
        return from_trained, from_frozen


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; with an `upsample` the first convolution doubles the size."""

    def __init__(
        self, channels: int, planes: int, plan: Plan, act: nn.Module, upsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = _spatial(channels, planes, 1, doubling=upsample is not None)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _spatial(planes, planes, 1, doubling=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.upsample = upsample
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.act(y + (x if self.upsample is None else self.upsample(x)))


class _BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; with an `upsample` the middle one doubles the size."""

    def __init__(
        self, channels: int, planes: int, plan: Plan, act: nn.Module, upsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        width, out = plan.width(planes), planes * plan.expansion
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _spatial(width, width, plan.groups, doubling=upsample is not None)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.upsample = upsample
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn1(self.conv1(x)))
        y = self.act(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.act(y + (x if self.upsample is None else self.upsample(x)))


def _spatial(channels: int, out: int, groups: int, *, doubling: bool) -> nn.Module:
    if doubling:
        return nn.ConvTranspose2d(channels, out, 2, stride=2, groups=groups, bias=False)
    return Conv2d(channels, out, 3, padding=1, groups=groups, bias=False)


def _stage(channels: int, out: int, blocks: int, plan: Plan, act: nn.Module) -> nn.Sequential:
    kind = _BasicBlock if plan.expansion == 1 else _BottleneckBlock
    planes = out // plan.expansion
    # The shortcut is made before its block: seeded initialisation draws in this order.
    upsample = nn.Sequential(_spatial(channels, out, 1, doubling=True), nn.BatchNorm2d(out))
    first = kind(channels, planes, plan, act, upsample)
    return nn.Sequential(first, *[kind(out, planes, plan, act) for _ in range(blocks - 1)])
