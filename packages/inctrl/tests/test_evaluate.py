import csv
from dataclasses import replace
from pathlib import Path

import pytest

from adcommon.data import load_splits
from adcommon.errors import EmptySplit, Leak
from adcommon.types.records import Split
from inctrl.evaluate import evaluate, rows_of, write_scores
from inctrl.settings import TestSettings

PLAIN = TestSettings(cache=False)


@pytest.fixture
def target(data_root: Path) -> Split:
    return load_splits("visa", data_root, ("candle",))["candle"]


def test_each_draw_is_an_evaluation_of_its_own_and_scores_repeat(trained, target) -> None:
    outcomes = list(evaluate(trained, [target], PLAIN, shots=2, seeds=(0, 1, 0), batch_size=16))
    assert [outcome.facts.references for outcome in outcomes] == ["seed 0", "seed 1", "seed 0"]
    first, second, third = (outcome.scores.image_scores for outcome in outcomes)
    assert (first == third).all()
    assert (first != second).any()
    assert outcomes[0].evaluation.pixel_auroc is not None
    row = rows_of(outcomes, trained, 1.0)[1]
    assert (row["seed"], row["shots"], row["setting"], row["text"]) == (1, 2, "few-shot", False)
    assert (row["dataset"], row["trained_on"], row["references"]) == ("visa", "mvtec", "seed 1")
    assert outcomes[1].place == "visa/candle"


def test_enough_references_support_a_decision(trained, target) -> None:
    for shots, rate, names in (
        (2, 0.4, set()),  # of two, none has two others
        (3, 0.2, set()),  # four are needed
        (3, 0.25, {"detection_rate", "false_alarm_rate"}),
    ):
        settings = replace(PLAIN, false_alarm_rate=rate)
        (outcome,) = evaluate(trained, [target], settings, shots=shots, seeds=(0,), batch_size=16)
        assert outcome.evaluation.extra.keys() == names


def test_the_cache_changes_no_score(trained, target) -> None:
    plain, kept, again = (
        next(
            evaluate(trained, [target], TestSettings(cache=cache), shots=2, seeds=(0,), batch_size=size)
        ).scores.image_scores
        for cache, size in ((False, 16), (True, 16), (True, 2))
    )
    assert (plain == kept).all()
    assert again == pytest.approx(plain, rel=1e-4)


def test_without_normal_images_references_are_asked_for(trained, target) -> None:
    alone = Split([], target.test, "lists")
    with pytest.raises(EmptySplit, match="--few-shot-dir"):
        list(evaluate(trained, [alone], PLAIN, shots=2, seeds=(0,), batch_size=16))


def test_a_reference_of_ones_own_is_not_tested(trained, target) -> None:
    leaking = replace(target, train=target.test[:2], dataset="folder")
    with pytest.raises(Leak, match="2 test images are references too"):
        list(evaluate(trained, [leaking], PLAIN, shots=2, seeds=(0,), batch_size=16))
    published = replace(leaking, dataset="visa")
    assert list(evaluate(trained, [published], PLAIN, shots=2, seeds=(0,), batch_size=16))


def test_scores_are_written_image_by_image(trained, target, tmp_path: Path) -> None:
    outcomes = list(evaluate(trained, [target], PLAIN, shots=2, seeds=(0, 1), batch_size=16))
    write_scores(tmp_path / "scores.csv", [("visa", "seed", out.scores) for out in outcomes])
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(target.test)
    assert float(rows[0]["score"]) == pytest.approx(float(outcomes[0].scores.image_scores[0]))
