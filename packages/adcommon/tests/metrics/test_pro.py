import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label

from adcommon.errors import BadValue
from adcommon.metrics import aupro
from adcommon.metrics.curves import step_curve
from adcommon.metrics.pro import RegionScores, label_regions


def by_trying_every_threshold(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """AUPRO as its definition reads, with another library's labels."""
    regions = [
        image_map[labels == number]
        for image_map, labels in (
            (m, label(mask, connectivity=2)) for m, mask in zip(maps, masks, strict=True)
        )
        for number in range(1, labels.max() + 1)
    ]
    negatives = maps[~masks]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        overlap = np.mean([(region >= threshold).mean() for region in regions])
        points.append(((negatives >= threshold).mean(), overlap))
    points.append((1.0, 1.0))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            area += (end - x0) * (y0 + (y0 + (y1 - y0) * (end - x0) / (x1 - x0))) / 2
    return area / limit


@st.composite
def stacks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Maps with ties and masks of several regions, with at least one positive and one negative pixel."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(2, 6)), draw(st.integers(2, 6)))
    maps = draw(hnp.arrays(np.float32, shape, elements=st.integers(-3, 3).map(float)))
    masks = draw(hnp.arrays(np.bool_, shape))
    masks[0, 0, 0], masks[-1, -1, -1] = True, False
    return maps, masks


limits = st.sampled_from([0.01, 0.05, 0.1, 0.3, 0.77, 1.0])


@given(stacks(), limits)
def test_aupro_equals_trying_every_threshold(case: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    assert aupro(*case, limit) == pytest.approx(by_trying_every_threshold(*case, limit), abs=1e-12)


@given(stacks(), limits)
def test_only_the_order_of_scores_counts(case: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    maps, masks = case
    assert aupro(np.exp(maps * 3) + 20, masks, limit) == pytest.approx(aupro(maps, masks, limit), abs=1e-12)


@given(stacks(), limits)
def test_a_constant_map_gives_half_the_limit(case: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    maps, masks = case
    assert aupro(np.zeros_like(maps), masks, limit) == pytest.approx(limit / 2, abs=1e-12)


@given(stacks(), limits)
def test_a_perfect_map_gives_one(case: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    _, masks = case
    assert aupro(masks.astype(np.float64), masks, limit) == pytest.approx(1, abs=1e-12)


def test_small_and_large_regions_weigh_the_same() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[0, 0] = mask[5:15, 5:15] = True
    only_small, only_large = np.zeros((20, 20)), np.zeros((20, 20))
    only_small[0, 0] = only_large[5:15, 5:15] = 1
    assert aupro(only_small, mask) == pytest.approx(aupro(only_large, mask)) == pytest.approx(0.5 + 0.15 / 2)


def test_corners_join_regions_and_images_do_not() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 1]], dtype=bool)
    labels, count = label_regions(mask)
    assert count == 4
    assert labels[0, 0] == labels[1, 1] != labels[0, 3]
    stack = RegionScores()
    for image_map, image_mask in zip(np.zeros((2, 4, 4)), np.stack([mask, mask[::-1]]), strict=True):
        stack.add_image(image_map, image_mask)
    assert stack.regions == 8


def test_pro_at_a_threshold_is_the_mean_share_of_each_region() -> None:
    scores = RegionScores()
    scores.add_image(
        np.array([[5.0, 1.0, 0.0, 5.0, 3.0, 3.0, 1.0]]),
        np.array([[True, True, False, True, True, True, True]]),
    )
    assert scores.pro_at(3.0) == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert scores.pro_at(3.5) == pytest.approx((1 / 2 + 1 / 4) / 2)


@pytest.mark.parametrize(
    ("value", "reason"), [(0, "none of 18 pixels is anomalous"), (1, "none of 18 pixels is normal")]
)
def test_undefined_is_nan_with_exactly_one_warning(value: int, reason: str) -> None:
    with pytest.warns(UserWarning, match=reason) as caught:
        assert np.isnan(aupro(np.zeros((2, 3, 3)), np.full((2, 3, 3), value)))
    assert len(caught) == 1


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, float("nan")])
def test_impossible_limits_are_refused(limit: float) -> None:
    with pytest.raises(BadValue, match=r"false-positive-rate limit .*; expected a number in \(0, 1\]"):
        aupro(np.zeros((2, 2)), np.eye(2), limit)


@given(stacks(), limits)
def test_pro_curve_has_the_area_of_aupro(case: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    scores = RegionScores()
    for image_map, mask in zip(*case, strict=True):
        scores.add_image(image_map, mask)
    ranking, weights = scores.rank()
    curve = step_curve(ranking, weights)
    inside = curve.fpr < limit
    x = np.append(curve.fpr[inside], limit)
    # The polyline has vertical steps: interpolate between its last point inside and the next one only.
    after = int(inside.sum())
    width = curve.fpr[after] - curve.fpr[after - 1]
    share = (limit - curve.fpr[after - 1]) / width
    y = np.append(
        curve.value[inside], curve.value[after - 1] + share * (curve.value[after] - curve.value[after - 1])
    )
    assert np.trapezoid(y, x) / limit == pytest.approx(scores.aupro(limit), abs=1e-9)


def test_nothing_warns_for_ordinary_maps() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        aupro(np.arange(9.0).reshape(3, 3), np.eye(3, dtype=np.uint8))
