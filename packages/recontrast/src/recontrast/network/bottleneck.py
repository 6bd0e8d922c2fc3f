"""The bottleneck: fuses three feature levels and compresses them to a code that can only hold normality.

It is reverse distillation's (Deng and Li, CVPR 2022, arXiv 2201.10703): multi-scale feature fusion, then a
"one-class embedding" that equals the backbone's own fourth stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import resnet


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The residual blocks of a backbone that bottleneck and decoder mirror; the defaults fit any backbone."""

    blocks: tuple[int, int, int] = (2, 2, 2)
    """Number of blocks in the backbone's first three stages."""
    code_blocks: int = 2
    """Number of blocks that compress the fused features to the code."""
    expansion: int = 1
    """Ratio of a block's output to its inner planes: 1 for basic blocks, 4 for bottleneck blocks."""
    groups: int = 1
    base_width: int = 64
    """Inner width of a bottleneck block = planes * base_width / 64 * groups."""

    def width(self, planes: int) -> int:
        """Inner width of a bottleneck block."""
        return int(planes * (self.base_width / 64)) * self.groups


_RESNET50 = Plan(blocks=(3, 4, 6), code_blocks=3, expansion=4)
PLANS = {
    "resnet18": Plan(),
    "resnet34": Plan(blocks=(3, 4, 6), code_blocks=3),
    "resnet50": _RESNET50,
    "resnet101": Plan(blocks=(3, 4, 23), code_blocks=3, expansion=4),
    "resnet152": Plan(blocks=(3, 8, 36), code_blocks=3, expansion=4),
    "resnext50_32x4d": Plan(blocks=(3, 4, 6), code_blocks=3, expansion=4, groups=32, base_width=4),
    "wide_resnet50_2": Plan(blocks=(3, 4, 6), code_blocks=3, expansion=4, base_width=128),
    "wide_resnet101_2": Plan(blocks=(3, 4, 23), code_blocks=3, expansion=4, base_width=128),
}


def plan_of(backbone: str) -> Plan:
    """The plan of a ResNet by its timm tag; every other backbone is mirrored with basic blocks.

    >>> plan_of("wide_resnet50_2.tv_in1k").blocks, plan_of("tf_efficientnet_lite0.in1k").blocks
    ((3, 4, 6), (2, 2, 2))
    """
    return PLANS.get(backbone.partition(".")[0], Plan())


class Bottleneck(nn.Module):
    """Three feature levels -> one code with twice the channels and half the size of the coarsest level."""

    def __init__(self, channels: Sequence[int], plan: Plan) -> None:
        """Layers as the backbone's `plan` says.

        Args:
            channels: of the three levels, fine to coarse.
        """
        super().__init__()
        fine, middle, coarse = channels
        code = 2 * coarse
        self.bn_layer = _code_stage(3 * coarse, code, plan)
        self.conv1, self.bn1 = _halving(fine, middle)
        self.conv2, self.bn2 = _halving(middle, coarse)
        self.conv3, self.bn3 = _halving(middle, coarse)
        # Faithful: the reference owns these two and never uses them; they are here for its state dict's sake.
        self.conv4, self.bn4 = nn.Conv2d(4 * coarse, code, 1, bias=False), nn.BatchNorm2d(code)
        self.conv4.requires_grad_(False)
        self.bn4.requires_grad_(False)
        self.relu = nn.ReLU(inplace=True)
        initialise_convolutions(self)

    def forward(self, *sources: Sequence[Float[Tensor, "_ _ _ _"]]) -> Float[Tensor, "all code height width"]:
        """Bring all levels to the coarsest one's size, then compress.

        Args:
            sources: the levels of each encoder. Their images are one batch from the first norm on; the
                convolutions before it look at each source alone: one without gradient costs none.
        """
        fine, middle, coarse = zip(*sources, strict=True)
        from_fine = self.relu(self.bn1(torch.cat([self.conv1(level) for level in fine])))
        from_fine = self.relu(self.bn2(self.conv2(from_fine)))
        from_middle = self.relu(self.bn3(torch.cat([self.conv3(level) for level in middle])))
        return self.bn_layer(torch.cat([from_fine, from_middle, torch.cat(coarse)], dim=1))


def initialise_convolutions(module: nn.Module) -> None:
    """Kaiming-normal (fan out) weights for ordinary convolutions; transposed ones keep PyTorch's default."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def _halving(channels: int, out: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out)


def _code_stage(channels: int, code: int, plan: Plan) -> nn.Sequential:
    """Residual blocks like the backbone's fourth stage; the first one halves the size."""
    kind = resnet.BasicBlock if plan.expansion == 1 else resnet.Bottleneck
    planes = code // plan.expansion
    # The shortcut is made before its block: seeded initialisation draws in this order.
    shortcut = nn.Sequential(nn.Conv2d(channels, code, 1, stride=2, bias=False), nn.BatchNorm2d(code))
    first = kind(channels, planes, 2, shortcut, plan.groups, plan.base_width)
    rest = [
        kind(code, planes, groups=plan.groups, base_width=plan.base_width)
        for _ in range(plan.code_blocks - 1)
    ]
    return nn.Sequential(first, *rest)
