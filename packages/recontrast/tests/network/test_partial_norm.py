import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from adcommon.errors import BadValue
from recontrast.network.partial_norm import PartialNorm, replace_norms


def by_hand(x: Tensor, layer: PartialNorm, pretrained_var: Tensor) -> Tensor:
    """The definition, channel by channel."""
    out = torch.empty_like(x)
    for c in range(x.shape[1]):
        values = x[:, c]
        floor = min(float(pretrained_var[c]), layer.var_threshold)
        var = values.var(correction=0) if values.var() > floor else torch.tensor(floor)
        normalised = (values - values.mean()) / (var + layer.eps).sqrt()
        out[:, c] = layer.weight[c] * normalised + layer.bias[c]
    return out


@settings(max_examples=30)
@given(
    st.lists(st.floats(1e-4, 2), min_size=4, max_size=4),
    st.lists(st.floats(1e-4, 2), min_size=4, max_size=4),
    st.floats(0.01, 2),
)
def test_each_channel_is_normalised_by_its_own_rule(spread: list, pretrained: list, threshold: float) -> None:
    layer = PartialNorm(4, threshold).double()
    with torch.no_grad():
        layer.weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(0))
    layer.load_state_dict(layer.state_dict() | {"running_var": torch.tensor(pretrained)})
    x = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x * torch.tensor(spread).view(1, 4, 1, 1)
    torch.testing.assert_close(layer(x), by_hand(x, layer, torch.tensor(pretrained)))


def test_channels_with_enough_variance_are_batch_norm() -> None:
    x = torch.randn(4, 6, 5, 5, dtype=torch.float64, requires_grad=True)
    ordinary = nn.BatchNorm2d(6).double()
    partial = PartialNorm.from_batch_norm(ordinary, 5e-4, "bn")
    upstream = torch.randn_like(x)
    (expected,) = torch.autograd.grad((ordinary(x) * upstream).sum(), x)
    (got,) = torch.autograd.grad((partial(x) * upstream).sum(), x)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(partial.running_var, ordinary.running_var)
    torch.testing.assert_close(partial.eval()(x), ordinary.eval()(x))


def test_a_flat_channel_keeps_the_floor_as_its_variance() -> None:
    layer = PartialNorm(1, 5e-4)
    x = torch.full((2, 1, 4, 4), 3.0) + 1e-3 * torch.randn(2, 1, 4, 4)
    assert layer(x).abs().max() < 0.5  # batch norm would blow the noise up to a deviation of 1
    torch.testing.assert_close(layer.running_var, torch.tensor([0.9 * 1 + 0.1 * 5e-4]))


def test_the_floor_is_fixed_by_the_last_load_and_not_by_training() -> None:
    layer = PartialNorm(2, var_threshold=10.0)
    layer.load_state_dict(layer.state_dict() | {"running_var": torch.tensor([0.5, 2.0])})
    for _ in range(3):
        layer(torch.randn(4, 2, 3, 3))
    assert layer.pretrained_var.tolist() == [0.5, 2.0]
    assert layer.running_var.tolist() != [0.5, 2.0]


def test_one_value_per_channel_is_refused_and_changes_nothing() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3))
    replace_norms(network, 5e-4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(BadValue, match=r"0: training needs more than one value per channel.*\(1, 3, 1, 1\)"):
        network(torch.randn(1, 3, 1, 1))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.eval()(torch.randn(1, 3, 1, 1)).isfinite().all()


def test_statistics_are_taken_in_float32_under_bfloat16() -> None:
    layer = PartialNorm(4, 5e-4)
    x = torch.randn(8, 4, 16, 16) + 5
    out = layer(x.bfloat16())
    assert out.dtype == torch.bfloat16
    assert layer.running_mean.dtype == torch.float32
    mean = x.bfloat16().float().mean(dim=(0, 2, 3))
    torch.testing.assert_close(layer.running_mean, 0.1 * mean, rtol=1e-5, atol=1e-5)


def test_channels_last_gives_the_same() -> None:
    x = torch.randn(2, 4, 6, 6)
    contiguous, last = PartialNorm(4, 0.5), PartialNorm(4, 0.5)
    got = last(x.to(memory_format=torch.channels_last))
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, contiguous(x))


def test_replacing_keeps_names_weights_and_fused_activations() -> None:
    trunk = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3)).eval()
    x = torch.randn(1, 3, 64, 64)
    names, before = list(trunk.state_dict()), trunk(x)
    replace_norms(trunk, 5e-4)
    assert list(trunk.state_dict()) == names
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in trunk.modules())
    for got, expected in zip(trunk(x), before, strict=True):
        torch.testing.assert_close(got, expected)


def test_a_network_without_batch_norm_is_refused() -> None:
    with pytest.raises(BadValue, match="no batch norm that PartialNorm could replace"):
        replace_norms(nn.Sequential(nn.Conv2d(3, 3, 1), nn.GroupNorm(1, 3)), 5e-4)
