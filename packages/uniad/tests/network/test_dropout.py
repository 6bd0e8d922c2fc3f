import pytest
import torch

from uniad.network import dropout as module
from uniad.network.dropout import Dropout, dropped_attention, keep_mask


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_that_stays_and_the_mean_are_as_promised(p: float) -> None:
    keep, scale = keep_mask(torch.empty(1000, 1001), p)
    share = keep.float().mean().item()
    assert share == pytest.approx(1 - p, abs=4 * (p * (1 - p) / 1e6) ** 0.5)
    assert scale == pytest.approx(1 / (1 - p), rel=1e-3)
    thinned = Dropout(p)(torch.ones(1000, 1001))
    assert thinned.mean().item() == pytest.approx(1.0, abs=5 * (p / (1 - p) / 1e6) ** 0.5)


def test_neighbouring_elements_are_dropped_independently() -> None:
    keep, _ = keep_mask(torch.empty(400_001), 0.5)
    values = keep.float() - 0.5
    for lag in (1, 2, 3, 4, 5, 8):
        together = (values[lag:] * values[:-lag]).mean().item() / 0.25
        assert abs(together) < 4 / 400_000**0.5, lag


def test_masks_follow_the_seed_and_evaluation_draws_none() -> None:
    layer, x = Dropout(0.3), torch.randn(50, 7)
    first = [torch.manual_seed(seed) and layer(x) for seed in (1, 1, 2)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    before = torch.get_rng_state()
    assert layer.eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert torch.equal(before, torch.get_rng_state())


def test_the_gradient_passes_where_the_element_stayed() -> None:
    x = torch.randn(100, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert torch.equal(x.grad != 0, out != 0)
    assert set(x.grad.unique().tolist()) == {0.0, 2.0}


def test_thinned_attention_has_the_gradients_of_its_formula(monkeypatch) -> None:
    weights = torch.rand(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    value = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    fixed = keep_mask(weights, 0.4)
    monkeypatch.setattr(module, "keep_mask", lambda like, p: fixed)
    expected = (weights * fixed[0] * fixed[1]) @ value
    torch.testing.assert_close(dropped_attention(weights, value, 0.4), expected)
    assert torch.autograd.gradcheck(lambda w, v: dropped_attention(w, v, 0.4), (weights, value))
