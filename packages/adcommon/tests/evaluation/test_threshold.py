"""The threshold keeps its promise, on average over calibration sets, whatever the distribution."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcommon.errors import BadValue
from adcommon.evaluation.threshold import Threshold, calibrate, images_needed


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


def test_too_few_images_are_said_and_give_the_highest_score(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        threshold = calibrate(np.arange(98.0), 0.01)
    assert threshold == Threshold(value=97.0, false_alarm_rate=0.01, images=98, supported=False)
    assert "98 normal images (needs 99)" in caplog.text
    caplog.clear()
    assert calibrate(np.arange(99.0), 0.01).supported
    assert not caplog.text


def test_a_threshold_survives_the_models_config() -> None:
    threshold = calibrate(np.linspace(0, 1, 200), 0.02)
    assert Threshold(**json.loads(json.dumps(asdict(threshold)))) == threshold


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
