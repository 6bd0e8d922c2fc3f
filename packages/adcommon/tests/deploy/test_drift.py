import numpy as np
import pytest
from scipy.stats import ks_2samp

from adcommon.deploy.drift import drift, two_sample
from adcommon.types.threshold import calibrate


@pytest.mark.parametrize("sizes", [(30, 40), (100, 25), (500, 800)])
def test_the_p_value_is_nearly_scipys(sizes: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    for shift in (0.0, 0.2, 0.5, 1.0):
        ours, theirs = (np.sort(generator.normal(size=size)) for size in sizes)
        wanted = ks_2samp(ours + shift, theirs).pvalue
        assert two_sample(ours + shift, theirs) == pytest.approx(wanted, abs=0.03, rel=0.5)


def test_a_batch_of_the_same_kind_is_seldom_warned_of_whatever_defects_are_in_it() -> None:
    generator = np.random.default_rng(1)
    said = 0
    for _ in range(500):
        promise = calibrate(generator.normal(size=60), 0.05)
        batch = np.concatenate([generator.normal(size=40), generator.normal(8, 1, size=15)])
        said += drift(batch, promise) is not None
    assert said <= 12  # 1 % of 500, and three deviations


@pytest.mark.parametrize(("shift", "word"), [(0.9, "higher"), (-0.9, "lower")])
def test_a_shift_of_all_scores_is_said_with_its_direction(shift: float, word: str) -> None:
    generator = np.random.default_rng(2)
    promise = calibrate(generator.normal(size=100), 0.05)
    said = drift(generator.normal(shift, 1, size=80), promise)
    assert said is not None
    assert word in said
    assert "Kolmogorov" in said


def test_a_batch_that_is_nearly_all_anomalous_is_doubted() -> None:
    promise = calibrate(np.random.default_rng(3).normal(size=100), 0.05)
    said = drift(np.full(600, 50.0), promise)
    assert said is not None
    assert "600 of 600 images are called anomalous" in said
    assert drift(np.full(9, 50.0), promise) is None  # so few may well be
    assert drift(np.full(9, 0.0), promise) is None
