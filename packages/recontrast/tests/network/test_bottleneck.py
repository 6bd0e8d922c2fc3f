import pytest
import timm
import torch
from torch import nn

from recontrast.network.bottleneck import PLANS, Bottleneck, plan_of


@pytest.mark.parametrize("backbone", PLANS)
def test_a_plan_mirrors_its_backbone(backbone: str) -> None:
    """Block counts, expansion, groups and width are those of timm's network."""
    with torch.device("meta"):
        network = timm.create_model(backbone)
    plan, stages = (
        plan_of(f"{backbone}.tv_in1k"),
        (network.layer1, network.layer2, network.layer3, network.layer4),
    )
    assert (*plan.blocks, plan.code_blocks) == tuple(len(stage) for stage in stages)
    block = network.layer3[1]
    assert plan.expansion == block.expansion
    assert plan.groups == block.conv2.groups
    if plan.expansion == 4:
        assert plan.width(256) == block.conv1.out_channels


@pytest.mark.parametrize("backbone", ["resnet18", "resnext50_32x4d", "tf_efficientnet_lite0"])
def test_the_code_has_twice_the_channels_and_half_the_size(backbone: str) -> None:
    channels = {"resnet18": (64, 128, 256), "tf_efficientnet_lite0": (24, 40, 112)}.get(
        backbone, (256, 512, 1024)
    )
    with torch.device("meta"):
        bottleneck = Bottleneck(channels, plan_of(backbone))
        levels = [torch.zeros(2, width, side, side) for width, side in zip(channels, (16, 8, 4), strict=True)]
        assert bottleneck(levels).shape == (2, 2 * channels[2], 2, 2)


def test_the_unused_layers_are_there_and_get_no_gradient() -> None:
    bottleneck = Bottleneck((8, 16, 32), plan_of("resnet18"))
    levels = [torch.randn(2, width, side, side) for width, side in ((8, 16), (16, 8), (32, 4))]
    bottleneck(levels).sum().backward()
    without = {name for name, parameter in bottleneck.named_parameters() if parameter.grad is None}
    assert without == {"conv4.weight", "bn4.weight", "bn4.bias"}
    assert bottleneck.bn4.num_batches_tracked == 0


def test_every_level_reaches_the_code() -> None:
    bottleneck = Bottleneck((8, 16, 32), plan_of("resnet18")).eval()
    levels = [torch.randn(1, width, side, side) for width, side in ((8, 16), (16, 8), (32, 4))]
    code = bottleneck(levels)
    for i in range(3):
        changed = [level + 1 if i == j else level for j, level in enumerate(levels)]
        assert not torch.allclose(bottleneck(changed), code)


def test_convolutions_start_kaiming_normal() -> None:
    """Deviation sqrt(2 / (k * k * channels out)), within five standard errors."""
    torch.manual_seed(0)
    for layer in Bottleneck((32, 64, 128), plan_of("resnet18")).modules():
        if isinstance(layer, nn.Conv2d):
            deviation = (2 / (layer.kernel_size[0] ** 2 * layer.out_channels)) ** 0.5
            error = 5 / (2 * layer.weight.numel()) ** 0.5
            assert float(layer.weight.detach().std()) == pytest.approx(deviation, rel=error)
