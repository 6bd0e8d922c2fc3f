from typing import Any

import numpy as np
import pytest

from adcommon.evaluation.compare import Candidate, disagreement, recommend, table
from adcommon.metrics import auroc
from adcommon.types.threshold import calibrate

LABELS = np.repeat([0, 1], [30, 40])


def candidate(method: str, scores: np.ndarray, **changed: Any) -> Candidate:
    value = auroc(scores, LABELS)
    row = {"image_auroc": value, "image_auroc_low": value - 0.1, "image_auroc_high": value, "image_ap": 0.5}
    facts = {"minutes": 1.0, "milliseconds": 10.0, "megabytes": 2.0, "cut_short": False, "promise": None}
    return Candidate(method=method, scores=scores, row=row, **(facts | changed))


@pytest.fixture
def good() -> np.ndarray:
    return np.random.default_rng(0).normal(size=70) + 2 * LABELS


@pytest.fixture
def bad() -> np.ndarray:
    return np.random.default_rng(1).normal(size=70)


def test_the_best_is_recommended_where_the_others_are_worse(good, bad) -> None:
    found = recommend([candidate("fast", bad, milliseconds=1.0), candidate("slow", good)], LABELS)
    assert (found.method, found.equals) == ("slow", ("slow",))
    assert found.reason == "slow is better than every other on 70 test images."
    assert recommend([candidate("slow", good)], LABELS).reason.startswith("no other method was measured")


def test_of_equals_a_far_faster_one_or_one_that_decides_is_recommended(good, bad) -> None:
    nearly = good + 0.01 * bad
    fast, slow = candidate("fast", nearly, milliseconds=2.0), candidate("slow", good)
    found = recommend([slow, candidate("bad", bad), fast], LABELS, proxy=True)
    assert (found.method, found.equals) == ("fast", ("slow", "fast"))
    assert "slow and fast cannot be told apart on 70 images, half of them with pasted defects" in found.reason
    assert "5.0 times faster than slow" in found.reason
    assert "stand in for real defects" in found.reason
    deciding = candidate("slow", good, promise=calibrate([0.0] * 19))
    found = recommend([deciding, fast], LABELS)
    assert found.method == "slow"
    assert "has a threshold, which not all of them have" in found.reason
    little = candidate("fast", nearly, milliseconds=9.0)
    highest = max([slow, little], key=lambda each: each.auroc).method
    found = recommend([slow, little], LABELS)
    assert found.method == highest
    assert f"{highest} is the first of them" in found.reason


def test_the_table_counts_what_is_decided_and_says_what_is_missing(good, bad) -> None:
    promise = calibrate(np.linspace(-1, 1, 19))
    lines = table(
        [candidate("worse", bad, cut_short=True), candidate("better", good, promise=promise)], LABELS
    )
    header, first, second = lines.lines
    detected, alarms = header.index("detected"), header.index("false alarms")
    above = good > promise.value
    assert first[0] == "better"
    assert first[detected] == f"{above[30:].sum()} of 40"
    assert first[alarms] == f"{above[:30].sum()} of 30"
    assert second[detected] == second[alarms] == "ranks only"
    assert second[-1] == "1.0 (cut short)"
    assert "AUPRO" not in header
    assert len(lines.notes) == 2


def test_models_agree_on_an_image_that_both_rank_alike() -> None:
    one, other = np.arange(4.0), np.array([3.0, 1.0, 2.0, 0.0])
    found = disagreement([candidate_of(one), candidate_of(other)])
    np.testing.assert_allclose(found, [1, 0, 0, 1])


def candidate_of(scores: np.ndarray) -> Candidate:
    return Candidate(
        method="m", scores=scores, row={}, promise=None, minutes=1.0, milliseconds=1.0, megabytes=1.0,
        cut_short=False,
    )  # fmt: skip
