import pytest
import torch
from torch import nn

from recontrast.network.bottleneck import plan_of
from recontrast.network.decoder import Decoder

SMALL = (8, 16, 32)


@pytest.mark.parametrize(
    ("backbone", "channels"),
    [("resnet18", SMALL), ("tf_efficientnet_lite0", (24, 40, 112)), ("wide_resnet50_2", (256, 512, 1024))],
)
def test_reconstructions_have_the_shapes_of_the_features(backbone: str, channels: tuple) -> None:
    with torch.device("meta"):
        decoder = Decoder(channels, plan_of(backbone))
        both = decoder(torch.zeros(6, 2 * channels[2], 2, 2))
    expected = [(3, width, side, side) for width, side in zip(channels, (16, 8, 4), strict=True)]
    for levels in both:
        assert [tuple(level.shape) for level in levels] == expected


@pytest.mark.parametrize("training", [False, True])
def test_heads_on_halves_equal_heads_on_everything(training: bool) -> None:
    decoder = Decoder(SMALL, plan_of("resnet18")).train(training)
    code = torch.randn(4, 64, 2, 2)
    coarse = decoder.layer1(code)
    middle = decoder.layer2(coarse)
    fine = decoder.layer3(middle)
    from_trained, from_frozen = decoder(code)
    for level, features in enumerate((fine, middle, coarse)):
        head = (decoder.out1, decoder.out2, decoder.out3)[level]
        torch.testing.assert_close(from_trained[level], head[0](features)[:2])
        torch.testing.assert_close(from_frozen[level], head[1](features)[2:])


def test_gelu_replaces_every_relu_of_the_blocks() -> None:
    decoder = Decoder(SMALL, plan_of("resnet18"), "gelu")
    activations = {type(layer) for layer in decoder.modules() if isinstance(layer, nn.ReLU | nn.GELU)}
    assert activations == {nn.GELU}
    assert next(layer for layer in decoder.modules() if isinstance(layer, nn.GELU)).approximate == "none"


def test_transposed_convolutions_keep_the_uniform_start() -> None:
    """Uniform in +-1/sqrt(4 * channels out), where ordinary convolutions are Kaiming-normal."""
    torch.manual_seed(0)
    decoder = Decoder((64, 128, 256), plan_of("resnet18"))
    for layer in decoder.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            bound = (4 * layer.out_channels) ** -0.5
            assert 0.99 * bound < float(layer.weight.detach().abs().max()) <= bound
    head = decoder.out3[1]
    assert float(head.weight.detach().std()) == pytest.approx((2 / 256) ** 0.5, rel=0.03)
    assert 0.9 / 16 < float(head.bias.detach().abs().max()) <= 1 / 16
