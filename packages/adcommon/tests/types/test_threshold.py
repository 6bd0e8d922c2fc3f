"""The threshold keeps its promise, on average over calibration sets, whatever the distribution."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from adcommon.errors import BadValue
from adcommon.io.schema import build
from adcommon.types.threshold import Threshold, calibrate, images_needed


@pytest.mark.parametrize("images", [19, 99, 150])
@pytest.mark.parametrize("rate", [0.05, 0.2])
@pytest.mark.parametrize(
    "draw",
    [
        lambda generator, size: generator.normal(size=size),
        lambda generator, size: generator.pareto(1.0, size=size),
        lambda generator, size: generator.integers(0, 5, size=size).astype(float),
    ],
    ids=["normal", "heavy tail", "many ties"],
)
def test_the_false_alarm_rate_is_kept(
    draw: Callable[[np.random.Generator, tuple[int, int]], np.ndarray], rate: float, images: int
) -> None:
    generator = np.random.default_rng(0)
    trials = 4000
    scores = draw(generator, (trials, images + 1))
    alarms = sum(row[-1] > calibrate(row[:-1], rate).value for row in scores)
    standard_error = (rate * (1 - rate) / trials) ** 0.5
    assert alarms / trials < rate + 4 * standard_error


def test_the_rate_is_not_just_kept_but_used() -> None:
    """A threshold of infinity would pass the test above; without ties the rate is m / (n + 1) exactly."""
    generator = np.random.default_rng(1)
    scores = generator.normal(size=(4000, 100))
    alarms = np.mean([row[99] > calibrate(row[:99], 0.05).value for row in scores])
    assert alarms == pytest.approx(0.05, abs=0.014)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_at_most_the_allowed_number_of_calibration_scores_exceed_it(scores: list[float], rate: float) -> None:
    threshold = calibrate(np.array(scores), rate)
    exceeding = sum(score > threshold.value for score in scores)
    assert exceeding <= rate * (len(scores) + 1)
    assert threshold.value in scores
    assert threshold.supported == (len(scores) >= images_needed(rate))


@pytest.mark.parametrize(("rate", "images"), [(0.01, 99), (0.05, 19), (0.29, 99), (0.07, 99), (0.1, 9)])
def test_rates_that_floating_point_cannot_hold_lose_no_image(rate: float, images: int) -> None:
    scores = np.arange(images, dtype=float)
    allowed = round(rate * (images + 1))
    assert calibrate(scores, rate).value == images - allowed


def test_too_few_images_are_said_and_give_the_highest_score() -> None:
    threshold = calibrate(np.arange(98.0), 0.01)
    assert (threshold.value, threshold.images, threshold.supported) == (97.0, 98, False)
    assert "needs 99 normal images, and there are 98" in threshold.remedy
    assert threshold.remedy.endswith("--false-alarm-rate 0.011")
    assert threshold.at(0.011).supported
    assert calibrate(np.arange(99.0), 0.01).supported


@pytest.mark.parametrize("images", [3, 8, 98, 99, 150, 1000])
def test_the_least_rate_that_is_named_is_supported(images: int) -> None:
    threshold = calibrate(np.arange(float(images)), 1e-6)
    (rate,) = re.findall(r"--false-alarm-rate ([0-9.e-]+)$", threshold.remedy)
    assert threshold.at(float(rate)).supported


def test_another_rate_is_what_the_same_images_say_of_it() -> None:
    scores = np.random.default_rng(0).normal(size=200)
    threshold = calibrate(scores, 0.05, "references")
    assert threshold.at(0.1) == calibrate(scores, 0.1, "references")
    with pytest.raises(BadValue, match="needs 999 normal images, and there are 200 reference images"):
        threshold.at(0.001)
    with pytest.raises(BadValue, match="not kept"):
        Threshold(value=1.0, false_alarm_rate=0.05, images=20, supported=True).at(0.1)


def test_p_values_decide_as_the_threshold_does() -> None:
    generator = np.random.default_rng(2)
    calibration, scores = (generator.integers(0, 35, size).astype(float) for size in (59, 500))
    for rate in (0.02, 0.05, 0.3):
        threshold = calibrate(calibration, rate)
        for score in scores.tolist():
            assert (threshold.p_value(score) <= rate) == (score > threshold.value)
    assert threshold.p_value(-1.0) == 1.0
    assert threshold.p_value(100.0) == 1 / 60
    assert Threshold(value=1.0, false_alarm_rate=0.05, images=20, supported=True).p_value(1.0) is None


@pytest.mark.parametrize(("images", "rate"), [(8, 0.12), (99, 0.01), (120, 0.01), (1000, 0.05), (9999, 0.3)])
def test_the_interval_is_that_of_the_beta_distribution(images: int, rate: float) -> None:
    allowed = math.floor(rate * (images + 1) + 1e-9)
    wanted = beta(allowed, images + 1 - allowed).ppf([0.025, 0.975])
    np.testing.assert_allclose(calibrate(np.arange(float(images)), rate).interval, wanted, rtol=1e-6)


def test_the_interval_holds_the_rate_of_19_calibrations_in_20() -> None:
    """The rate of one calibration is known where scores are uniform numbers: 1 - value."""
    generator = np.random.default_rng(3)
    thresholds = [calibrate(generator.uniform(size=120), 0.05) for _ in range(1000)]
    low, high = thresholds[0].interval
    assert np.mean([low <= 1 - each.value <= high for each in thresholds]) == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize("scores", [(1.0, 0.5), (0.5, math.inf), (0.5, 1.0, 2.0)])
def test_scores_that_no_calibration_leaves_are_refused(scores: tuple[float, ...]) -> None:
    with pytest.raises(BadValue, match=r"threshold\.scores"):
        Threshold(value=1.0, false_alarm_rate=0.5, images=2, supported=True, scores=scores)


def test_a_threshold_survives_the_models_config() -> None:
    threshold = calibrate(np.linspace(0, 1, 200), 0.02)
    assert build(Threshold, json.loads(json.dumps(asdict(threshold))), "config.json") == threshold


@pytest.mark.parametrize(
    ("scores", "rate", "message"),
    [
        ([], 0.05, "at least 19"),
        ([1.0, float("nan")], 0.05, "1 of 2 calibration scores are not finite"),
        ([1.0], 0.0, "above 0 and below 1"),
        ([1.0], 5.0, "above 0 and below 1"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(scores: list[float], rate: float, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        calibrate(np.array(scores, dtype=float), rate)
