"""Runs side by side: what may be compared, and what the scores of the same images tell."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adcommon.errors import BadValue
from adcommon.evaluation.report import comparison
from adcommon.metrics import auroc
from adcommon.results.scores import CategoryScores, read_scores
from adcommon.results.tables import Table

LABELS = np.repeat([0, 1], [30, 40])
GOOD = np.random.default_rng(0).normal(size=70) + 2 * LABELS
BAD = np.random.default_rng(1).normal(size=70)


def made(category: str, image_auroc: float, **changed: Any) -> dict[str, Any]:
    facts = {"method": "padim", "dataset": "mvtec", "protocol": "standard", "seed": 1, "extra": {}}
    interval = {"image_auroc_low": image_auroc - 0.1, "image_auroc_high": image_auroc}
    return facts | interval | {"category": category, "image_auroc": image_auroc, "image_ap": 0.5} | changed


def scored(category: str, scores: np.ndarray, first: str = "000") -> tuple[dict[str, Any], CategoryScores]:
    """The row, and what scores.csv says."""
    images = (first, *(f"{place:03d}" for place in range(1, 70)))
    decided = {
        "detection_rate": float((scores[30:] > 1).mean()),
        "false_alarm_rate": float((scores[:30] > 1).mean()),
    }
    row = made(category, auroc(scores, LABELS), normal=30, anomalous=40, extra=decided)
    return row, CategoryScores(category, images, LABELS, scores)


def compared(**runs: list[tuple[dict[str, Any], CategoryScores]]) -> Table:
    rows = {name: [row for row, _ in run] for name, run in runs.items()}
    return comparison(rows, {name: [scores for _, scores in run] for name, run in runs.items()})


def test_only_common_categories_under_the_standard_protocol_are_compared() -> None:
    results = {
        "a": [made("wood", 0.9), made("tile", 0.7), made("grid", 0.0)],
        "b": [made(name, 0.6, method="uniad") for name in ("wood", "tile")],
        "c": [
            made(name, value, seed=seed) for name in ("wood", "tile") for seed, value in ((1, 0.1), (2, 0.3))
        ],
    }
    results["a"] += [made(name, 1.0, protocol="recontrast") for name in ("wood", "tile")]
    table = comparison(results, {})
    assert table.title == "standard protocol, 2 categories, percent"
    assert table.lines == [
        ["result", "method", "seed", "image AUROC", "95 % interval", "image AP"],
        ["a", "padim", "1", "80.00", "-", "50.00"],
        ["b", "uniad", "1", "60.00", "-", "50.00"],
        ["c", "padim", "2", "30.00", "-", "50.00"],
        ["c", "padim", "1", "10.00", "-", "50.00"],
    ]
    (note,) = table.notes
    assert note.startswith(
        "Whether a is better than b, c, seed 2 and c, seed 1 by more than chance is not known"
    )


def test_results_without_common_categories_are_not_compared() -> None:
    with pytest.raises(BadValue, match=r"nothing to compare.*a: wood; b: none"):
        comparison({"a": [made("wood", 0.5)], "b": [made("wood", 0.5, protocol="recontrast")]}, {})


def test_scores_of_the_same_images_tell_runs_apart() -> None:
    nearly = GOOD + 0.01 * BAD
    best, second = ("a", "b") if auroc(GOOD, LABELS) >= auroc(nearly, LABELS) else ("b", "a")
    others = scored("nut", GOOD - 0.5 * LABELS, first="elsewhere")
    table = compared(a=[scored("nut", GOOD)], b=[scored("nut", nearly)], c=[scored("nut", BAD)], d=[others])
    better, equal, unknown = table.notes
    assert better == f"{best} is better than c on the same 70 test images."
    assert equal.startswith(f"{best} and {second} cannot be told apart on the same 70 test images")
    assert unknown.startswith(f"Whether {best} is better than d by more than chance is not known")
    detected, alarms = (table.lines[0].index(name) for name in ("detected", "false alarms"))
    line = next(line for line in table.lines if line[0] == "a")
    assert line[detected] == f"{(GOOD[30:] > 1).sum()} of 40"
    assert line[alarms] == f"{(GOOD[:30] > 1).sum()} of 30"


def test_means_have_an_interval_and_counts_of_all_images() -> None:
    table = compared(
        a=[scored("nut", GOOD), scored("bolt", BAD)], b=[scored("nut", BAD), scored("bolt", BAD)]
    )
    values = dict(zip(table.lines[0], table.lines[1], strict=True))
    low, high = map(float, values["95 % interval"].split(" to "))
    assert low < float(values["image AUROC"]) < high
    assert values["detected"] == f"{(GOOD[30:] > 1).sum() + (BAD[30:] > 1).sum()} of 80"
    assert table.notes == ["a is better than b on the same 140 test images."]


def test_scores_that_a_row_was_not_measured_from_say_nothing() -> None:
    (row, scores), (_, others) = scored("nut", GOOD), scored("nut", BAD)
    table = comparison({"a": [row], "b": [row]}, {"a": [scores], "b": [others]})
    assert "is not known" in table.notes[0]


@pytest.mark.parametrize(
    "text", ["a,b\n", "image,category,label,score\na,nut,x,1\n", "image,category,label,score\n"]
)
def test_a_table_that_is_no_evaluations_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(BadValue, match=r"scores\.csv is not the table of an evaluation"):
        read_scores(tmp_path)


def test_what_made_runs_differ_is_said() -> None:
    def run(data: str, **changed: Any) -> tuple[dict[str, Any], CategoryScores]:
        row, scores = scored("wood", GOOD)
        facts = {"commit": "a1", "device": "cpu", "recipe": "r1", "versions": {"torch": "2.1", "numpy": "2"}}
        return row | {"data": data, "provenance": facts | changed}, scores

    same = compared(one=[run("d1")], two=[run("d1")])
    assert not [note for note in same.notes if "differs" in note or "DIFFER" in note]
    newer = {"torch": "2.2", "numpy": "2", "resad": "1"}
    notes = compared(one=[run("d1")], two=[run("d2", commit="b2", versions=newer, note="warmer light")]).notes
    assert "two: warmer light" in notes
    assert "THE TEST IMAGES, their masks or their labels DIFFER: these numbers do not compare." in notes
    assert [note for note in notes if "differs" in note] == [
        "commit differs: a1 (one), b2 (two)",
        "torch differs: 2.1 (one), 2.2 (two)",
    ]
