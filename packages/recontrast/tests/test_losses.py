import itertools
from dataclasses import replace
from functools import partial
from importlib.metadata import EntryPoint

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adcommon.errors import UnknownName
from recontrast.losses import (
    GROUP,
    LOSSES,
    criterion_of,
    global_cosine,
    loss_of,
    mined,
    mined_cosine,
    mining_alpha,
    recontrast_loss,
    region_cosine,
)
from recontrast.model import Outputs
from recontrast.recipes import MVTEC


def levels(seed: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((3, 4, 8, 8), (3, 8, 4, 4))
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def test_the_loss_is_zero_for_equal_and_two_per_level_for_opposite_features() -> None:
    a = levels(0)
    assert float(global_cosine(a, a)) == pytest.approx(0, abs=1e-12)
    assert float(global_cosine(a, [-level for level in a])) == pytest.approx(2 * len(a))
    assert float(region_cosine(a, [-level for level in a])) == pytest.approx(2 * len(a))


def test_the_global_cosine_treats_an_image_and_level_as_one_vector() -> None:
    a, b = levels(0), levels(1)
    by_hand = sum(
        1 - torch.dot(x.flatten(), y.flatten()) / (x.norm() * y.norm())
        for target, rebuilt in zip(a, b, strict=True)
        for x, y in zip(target, rebuilt, strict=True)
    )
    torch.testing.assert_close(global_cosine(a, b), by_hand / 3)


def test_the_two_cosines_are_invariant_to_scale_of_the_right_thing() -> None:
    """Scaling single positions changes the global cosine and not the region cosine."""
    a, b = levels(0), levels(1)
    scaled = [rebuilt.clone() for rebuilt in b]
    for rebuilt in scaled:
        rebuilt[..., 0] *= 10
    torch.testing.assert_close(region_cosine(a, scaled), region_cosine(a, b))
    assert abs(float(global_cosine(a, scaled) - global_cosine(a, b))) > 1e-3
    torch.testing.assert_close(global_cosine(a, [3 * rebuilt for rebuilt in b]), global_cosine(a, b))


def test_targets_get_no_gradient_unless_asked() -> None:
    a, b = ([level.requires_grad_() for level in levels(seed)] for seed in (0, 1))
    global_cosine(a, b).backward()
    assert a[0].grad is None
    global_cosine(a, b, stop_gradient=False).backward()
    assert a[0].grad is not None


@settings(max_examples=20)
@given(st.floats(-3, 1), st.floats(0, 1))
def test_mining_changes_gradients_at_easy_points_only(alpha: float, factor: float) -> None:
    a, b = levels(0), [level.requires_grad_() for level in levels(1)]
    plain = torch.autograd.grad(global_cosine(a, b), b)
    mined_loss = mined_cosine(a, b, alpha, factor=factor)
    torch.testing.assert_close(mined_loss, global_cosine(a, b), rtol=0, atol=0)
    mined = torch.autograd.grad(mined_loss, b)
    for target, rebuilt, before, after in zip(a, b, plain, mined, strict=True):
        cosine = (target * rebuilt).sum(1) / (target.norm(dim=1) * rebuilt.norm(dim=1))
        distance = 1 - cosine
        easy = distance < distance.mean() + alpha * distance.std()
        scale = torch.where(easy, factor, 1.0)[:, None]
        torch.testing.assert_close(after, before * scale)


def test_about_the_hardest_seventh_is_left_at_the_end() -> None:
    target, rebuilt = torch.randn(4, 16, 32, 32), torch.randn(4, 16, 32, 32, requires_grad=True)
    mined_cosine([target], [rebuilt], alpha=1.0).backward()
    assert float((rebuilt.grad != 0).double().mean()) == pytest.approx(0.159, abs=0.02)


def test_channels_last_gives_the_same_loss() -> None:
    a, b = levels(0), levels(1)
    last = [[level.to(memory_format=torch.channels_last) for level in both] for both in (a, b)]
    torch.testing.assert_close(mined_cosine(*last, 0.0), mined_cosine(a, b, 0.0))


def test_the_loss_is_half_of_either_pair() -> None:
    frozen, trained, perfect = levels(0), levels(1), levels(0)
    outputs = Outputs(frozen, perfect, trained, [-level for level in trained])
    assert float(recontrast_loss(outputs, alpha=-3.0)) == pytest.approx(0.5 * 0 + 0.5 * 2 * len(frozen))


def test_alpha_rises_straight_and_stays() -> None:
    alphas = [mining_alpha(i, 100, 0.1) for i in range(100)]
    assert alphas[0] == -3
    assert alphas[10:] == [1.0] * 90
    steps = [b - a for a, b in itertools.pairwise(alphas[:11])]
    assert steps == pytest.approx([0.4] * 10)
    assert mining_alpha(0, 100, ramp=0.0) == 1


def test_the_loss_keeps_double_precision() -> None:
    assert recontrast_loss(Outputs(levels(0), levels(1), levels(2), levels(3)), 0.0).dtype == torch.float64


@pytest.mark.parametrize(("kind", "stop_gradient"), [("global", True), ("global", False), ("region", True)])
def test_a_loss_from_outside_is_mined_as_the_papers_are(kind, stop_gradient: bool) -> None:
    """The paper's own, given as if it came from outside, has the same value and the same gradients."""
    loss = {"global": partial(global_cosine, stop_gradient=False), "region": region_cosine}[kind]
    pair = [[level.requires_grad_() for level in levels(seed)] for seed in (0, 1)]
    leaves = pair[1] if stop_gradient else [*pair[0], *pair[1]]
    options = {"factor": 0.25, "stop_gradient": stop_gradient}
    within, without = mined_cosine(*pair, 0.5, kind=kind, **options), mined(loss, *pair, 0.5, **options)
    torch.testing.assert_close(without, within)
    gradients = (torch.autograd.grad(value, leaves) for value in (without, within))
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_recipe_names_a_loss_that_a_script_brings(monkeypatch) -> None:
    monkeypatch.setitem(LOSSES, "l2", lambda targets, rebuilt: (targets[0] - rebuilt[0]).square().mean())
    outputs = Outputs(levels(0), levels(1), levels(2), levels(2))  # the second pair is equal
    by_hand = 0.5 * (levels(0)[0] - levels(1)[0]).square().mean()
    torch.testing.assert_close(criterion_of(replace(MVTEC, loss="l2"), 0)(outputs), by_hand)


def test_a_recipe_names_a_loss_that_a_package_brings(monkeypatch) -> None:
    point = EntryPoint("cosine", "recontrast.losses:region_cosine", GROUP)
    monkeypatch.setattr("recontrast.losses.installed", lambda group: {point.name: point})
    monkeypatch.setattr("recontrast.losses.LOSSES", dict(LOSSES))
    assert loss_of("cosine") is region_cosine
    with pytest.raises(UnknownName, match="unknown loss: 'cosin'; did you mean 'cosine'"):
        loss_of("cosin")
