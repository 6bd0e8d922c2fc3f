import copy

import pytest
import torch
from torch import nn

from realnet.network.convolution import MOST_POSITIONS, Conv2d, ConvTranspose2d


def pair(kind: str, out: int = 512) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """One of ours, torch's with the same weights, and maps."""
    torch.manual_seed(0)
    if kind == "transposed":
        ours: nn.Module = ConvTranspose2d(32, out, 4, stride=2, padding=1)
        plain: nn.Module = nn.ConvTranspose2d(32, out, 4, stride=2, padding=1)
    else:
        ours, plain = Conv2d(32, out, 3, padding=1), nn.Conv2d(32, out, 3, padding=1)
    plain.load_state_dict(ours.state_dict())
    return ours, plain, torch.randn(2, 32, 12, 12)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels"])
@pytest.mark.parametrize("kind", ["plain", "transposed"])
@torch.no_grad()
def test_weights_in_another_order_give_the_same_maps_until_and_after_they_change(kind: str, layout) -> None:
    ours, plain, x = pair(kind)
    ours, x = ours.to(memory_format=layout), x.contiguous(memory_format=layout)
    for change in (None, "in place", "loaded", "replaced", "copied", "smaller"):
        if change == "in place":
            ours.weight.mul_(2), plain.weight.mul_(2)
        elif change == "loaded":
            plain.reset_parameters()
            ours.load_state_dict(plain.state_dict())
        elif change == "replaced":
            plain.reset_parameters()
            ours.weight, ours.bias = (nn.Parameter(value.clone()) for value in plain.parameters())
        elif change == "copied":
            ours = copy.deepcopy(ours)
        elif change == "smaller":
            x = x[:1, :, :8]
        torch.testing.assert_close(ours(x), plain(x), rtol=1e-5, atol=1e-5)
        kept = ours._in_order
        assert kept is not None
        ours(x)
        assert ours._in_order is kept


@pytest.mark.parametrize("kind", ["plain", "transposed"])
def test_what_a_fused_optimiser_changed_is_what_is_multiplied_with(kind: str) -> None:
    ours, plain, x = pair(kind)
    optimisers = [torch.optim.Adam(layer.parameters(), lr=0.1, fused=True) for layer in (ours, plain)]
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(ours(x), plain(x), rtol=1e-5, atol=1e-5)
            assert ours._in_order is not None
        for layer, optimiser in zip((ours, plain), optimisers, strict=True):
            layer(x).square().sum().backward()
            optimiser.step()


def test_learning_with_fewer_products_drops_the_order_of_before() -> None:
    torch.manual_seed(0)
    ours, plain = Conv2d(128, 128, 3, padding=1), nn.Conv2d(128, 128, 3, padding=1)
    plain.load_state_dict(ours.state_dict())
    few, many = torch.randn(1, 128, 8, 8), torch.randn(4, 128, 16, 16)
    with torch.no_grad():
        ours(few)
        assert ours._in_order is not None
    for layer in (ours, plain):
        optimiser = torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)
        layer(many).square().sum().backward()
        optimiser.step()
    assert ours.has_fewer_products(many)
    assert not ours.has_fewer_products(few)
    with torch.no_grad():
        torch.testing.assert_close(ours(few), plain(few), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["plain", "transposed"])
@torch.no_grad()
def test_few_weights_are_left_to_torch(kind: str) -> None:
    ours, plain, x = pair(kind, out=64)
    assert torch.equal(ours(x), plain(x))
    assert ours._in_order is None


@pytest.mark.parametrize("kind", ["plain", "transposed"])
def test_what_learns_or_is_not_float32_or_has_many_positions_is_torchs_own(kind: str) -> None:
    ours, plain, x = pair(kind)
    with torch.no_grad():
        ours(x)
    ours(x).sum().backward()
    plain(x).sum().backward()
    assert torch.equal(ours.weight.grad, plain.weight.grad)
    side = int(MOST_POSITIONS**0.5) + 1
    with torch.no_grad():
        large = torch.randn(1, 32, side, side)
        assert torch.equal(ours(large), plain(large))
        assert ours._in_order is None
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(ours(x), plain(x))
        assert torch.equal(ours.double()(x.double()), plain.double()(x.double()))
