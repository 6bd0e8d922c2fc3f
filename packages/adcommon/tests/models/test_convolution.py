import copy

import pytest
import torch
from torch import nn

from adcommon.models.convolution import FEWEST_TILES_TO_LEARN, Conv2d, quicken

LAYOUTS = pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels"]
)
SHAPES = pytest.mark.parametrize(
    ("channels", "out", "shape"),
    [(128, 64, (4, 30, 17)), (64, 128, (1, 64, 33)), (128, 128, (70, 4, 4)), (96, 96, (3, 20, 130))],
)


def layer(channels: int, out: int, layout: torch.memory_format, *, bias: bool = True) -> Conv2d:
    """One of ours with seeded weights."""
    torch.manual_seed(0)
    return Conv2d(channels, out, 3, padding=1, bias=bias).to(memory_format=layout)


def sum_of_products(ours: Conv2d) -> nn.Conv2d:
    """torch's with the same weights, in float64."""
    plain = nn.Conv2d(ours.in_channels, ours.out_channels, 3, padding=1, bias=ours.bias is not None)
    plain.load_state_dict(ours.state_dict())
    return plain.double()


def assert_near(own: torch.Tensor, exact: torch.Tensor) -> None:
    """Equal up to rounding, in units of the largest value."""
    assert own.shape == exact.shape
    assert (own - exact).abs().max() < 5e-6 * exact.abs().max()


@LAYOUTS
@SHAPES
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_maps_and_gradients_are_those_of_the_sum(channels, out, shape, layout, bias) -> None:
    ours = layer(channels, out, layout, bias=bias)
    plain = sum_of_products(ours)
    x = torch.randn(shape[0], channels, *shape[1:]).to(memory_format=layout)
    slopes = torch.randn(shape[0], out, *shape[1:]).to(memory_format=layout)
    assert ours.has_fewer_products(x)
    answers = []
    for conv, inputs, slope in ((ours, x.clone(), slopes), (plain, x.double(), slopes.double())):
        inputs.requires_grad_()
        answer = conv(inputs)
        answer.backward(slope)
        answers.append([answer, inputs.grad, *(parameter.grad for parameter in conv.parameters())])
    for own, exact in zip(*answers, strict=True):
        assert_near(own.double(), exact)
    assert answers[0][0].is_contiguous(memory_format=layout) or shape[1] % 4 or shape[2] % 4
    assert ours.weight.grad.is_contiguous(memory_format=layout)  # as the optimiser has it
    with torch.no_grad():
        assert_near(ours(x).double(), answers[1][0])


@torch.no_grad()
def test_the_kernel_is_kept_until_the_weights_change() -> None:
    ours, x = layer(128, 128, torch.channels_last), torch.randn(2, 128, 16, 16)
    for change in (None, "in place", "loaded", "replaced", "copied"):
        if change == "in place":
            ours.weight.mul_(2)
        elif change == "loaded":
            ours.load_state_dict(nn.Conv2d(128, 128, 3).state_dict())
        elif change == "replaced":
            ours.weight = nn.Parameter(torch.randn_like(ours.weight))
        elif change == "copied":
            ours = copy.deepcopy(ours)
            assert ours._kept is None
        assert_near(ours(x).double(), sum_of_products(ours)(x.double()))
        kept = ours._kept
        assert kept is not None
        ours(x)
        assert ours._kept is kept


@pytest.mark.parametrize("how", ["many tiles", "few tiles", "compiled"])
def test_what_a_fused_optimiser_changed_is_what_is_multiplied_with(how: str) -> None:
    ours, x = layer(128, 128, torch.channels_last), torch.randn(8, 128, 16, 16)
    learns = torch.compile(ours, backend="eager") if how == "compiled" else ours
    optimiser = torch.optim.Adam(ours.parameters(), lr=0.1, fused=True)
    for _ in range(2):
        with torch.no_grad():
            assert_near(ours(x).double(), sum_of_products(ours)(x.double()))
            assert ours._kept is not None
        learns(x[:1] if how == "few tiles" else x).square().mean().backward()
        assert ours._kept is None
        optimiser.step()
        optimiser.zero_grad()


def test_a_frozen_layer_on_the_way_back_keeps_its_kernels() -> None:
    ours = layer(128, 128, torch.channels_last).requires_grad_(False)
    plain, x = sum_of_products(ours), torch.randn(4, 128, 16, 16)
    for _ in range(2):
        kept, slopes = ours._kept, []
        for conv, inputs in ((ours, x.clone()), (plain, x.double())):
            slopes += torch.autograd.grad(conv(inputs.requires_grad_()).square().sum(), inputs)
        assert_near(slopes[0].double(), slopes[1])
    assert ours._kept is kept


def test_changed_weights_are_refused_on_the_way_back() -> None:
    ours, x = layer(128, 128, torch.channels_last), torch.randn(4, 128, 16, 16, requires_grad=True)
    loss = ours(x).sum()
    with torch.no_grad():
        ours.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_what_gains_nothing_is_torchs_own() -> None:
    ours = layer(128, 128, torch.channels_last)
    few = torch.randn(1, 128, 8, 8)
    assert not ours.has_fewer_products(few)
    assert torch.equal(ours(few), nn.Conv2d.forward(ours, few))
    middle = torch.randn(2, 128, 16, 16)  # enough to score, not to learn
    assert not ours.has_fewer_products(middle)
    assert 2 * 4 * 4 < FEWEST_TILES_TO_LEARN
    with torch.no_grad():
        assert ours.has_fewer_products(middle)
        with torch.autocast("cpu", torch.bfloat16):
            assert ours(middle).dtype == torch.bfloat16
        assert not ours.double().has_fewer_products(middle.double())


def test_only_wide_3x3_convolutions_are_replaced_and_names_stay() -> None:
    others = [
        nn.Conv2d(128, 128, 1),
        nn.Conv2d(128, 128, 3, padding=1, stride=2),
        nn.Conv2d(128, 128, 3),
        nn.Conv2d(128, 128, 3, padding=2, dilation=2),
        nn.Conv2d(128, 128, 3, padding=1, groups=128),
        nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.Conv2d(512, 3, 3, padding=1),
    ]
    network = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1), *others)
    names = list(network.state_dict())
    assert quicken(network) is network
    assert [type(module) for module in network] == [Conv2d, *[nn.Conv2d] * len(others)]
    assert list(network.state_dict()) == names
