import numpy as np
import pytest

from adcommon.metrics.variants.overlaps import area_under, equal_steps, sort_regions
from adcommon.testing.metrics import drawn, sampled_curve


@pytest.mark.parametrize("filled", [False, True])
def test_a_curve_is_that_of_labelling_at_every_threshold(filled: bool) -> None:
    maps, masks = drawn()
    thresholds = np.linspace(maps.min(), maps.max(), 23)
    pro, fpr = sampled_curve(maps, masks, thresholds, filled)
    got_fpr, got_pro = sort_regions(maps, masks, fill_holes=filled).overlap(thresholds)
    assert np.array_equal(got_fpr, fpr)
    assert got_pro == pytest.approx(pro, abs=1e-15)


def test_equal_steps_end_before_the_largest_score_and_need_finite_ones() -> None:
    assert equal_steps(np.array([1.0, 5.0, 2.0]), 4).tolist() == [1, 2, 3, 4]
    assert equal_steps(np.ones(3), 4) is None
    assert equal_steps(np.array([0.0, np.inf]), 4) is None


def test_an_area_has_no_direction() -> None:
    x, y = np.array([0.0, 1.0, 3.0]), np.array([2.0, 2.0, 4.0])
    assert area_under(x, y) == area_under(x[::-1], y[::-1]) == 8
