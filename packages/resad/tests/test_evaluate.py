from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adcommon.data import load_splits
from adcommon.metrics import auroc
from adcommon.types.records import Split
from resad.backbone import build_backbone, make_preprocess
from resad.detector import ScoreRange
from resad.evaluate import PaperScores, evaluate, mean_scores, report_row
from resad.metrics import ResADResult
from resad.model import ResAD
from resad.recipes import Recipe
from resad.targets import ReferenceSource, make_target

SCALE = ScoreRange((0.0, 0.0), 2.0)


@pytest.fixture
def run(trees: Path, recipe: Recipe):
    """Evaluates an untrained model on one category; keyword arguments change the recipe."""
    torch.manual_seed(0)
    backbone, preprocess = build_backbone(recipe, "random"), make_preprocess(recipe)
    model = ResAD(list(backbone.channels), recipe)
    split = load_splits("visa", trees, ("candle",))["candle"]

    def run(given: Split = split, scale=SCALE, maps=None, thresholds=None, **changed: object):
        new = replace(recipe, **changed)
        target = make_target(
            "candle", given, backbone, preprocess, new, ReferenceSource(), cache=None, memory_bytes=2**28
        )
        return list(evaluate(model, preprocess, [target], new, scale, maps=maps, thresholds=thresholds))

    return run, split


def test_both_protocols_are_reported_and_each_has_its_own_constants(run) -> None:
    outcomes = run[0](protocol="resad")
    assert [outcome.shots for outcome, _, _ in outcomes] == [2, 3]
    for _, evaluations, paper in outcomes:
        standard, own = evaluations
        assert (standard.protocol, own.protocol) == ("standard", "resad")
        assert own.image_auroc == paper.merged.image_auroc
        assert own.aupro is None
        assert standard.aupro is not None
        assert own.extra["logps_pixel_auroc"] == paper.logps.pixel_auroc
    assert len(run[0](protocol="standard")[0][1]) == 1


def test_without_constants_only_the_papers_rows_are_there(run) -> None:
    assert [part.protocol for part in run[0](scale=None, protocol="standard")[0][1]] == ["resad"]


def test_aupro_is_computed_when_asked_for(run) -> None:
    _, (_, own), paper = run[0](protocol="resad", pro=True)[0]
    assert 0 <= own.aupro <= 1
    assert own.aupro == paper.merged.aupro


def test_without_pixel_truth_images_are_measured_and_pixels_left_out(run) -> None:
    split = run[1]
    blind = Split(split.train, [replace(record, mask=None) for record in split.test])
    for _, (standard, own), paper in run[0](blind, protocol="resad"):
        assert standard.pixel_auroc is None
        assert own.pixel_auroc is None
        assert np.isnan(paper.merged.pixel_auroc)
        assert 0 <= own.image_auroc <= 1


def test_one_test_image_breaks_nothing(run) -> None:
    split = run[1]
    single = Split(split.train, split.test[:1])
    with pytest.warns(UserWarning, match="undefined"):
        ((_, evaluations, _), _) = run[0](single)
    assert evaluations[0].normal + evaluations[0].anomalous == 1


def test_a_threshold_and_pictures_belong_to_the_most_references(run, tmp_path: Path) -> None:
    outcomes = run[0](thresholds={3: -1.0}, maps=tmp_path / "maps")
    rates = [evaluations[0].extra for _, evaluations, _ in outcomes]
    assert rates == [{}, {"detection_rate": 1.0, "false_alarm_rate": 1.0}]
    assert len(list((tmp_path / "maps/candle").glob("*/*.png"))) == 6


def test_image_auroc_is_that_of_the_maps_maxima(run) -> None:
    (outcome, _, paper), _ = run[0]()
    levels = outcome.levels
    assert len(levels[0].normal) == 6
    labels = np.array([record.label for record in run[1].test])
    from adcommon.models.anomaly_maps import max_score
    from resad.detector import merged_map

    scale = ScoreRange.of([level.normal for level in levels], (32, 32))
    scores = max_score(merged_map(levels, (32, 32), scale)).numpy()
    assert paper.merged.image_auroc == pytest.approx(auroc(scores, labels), abs=1e-5)


def test_a_row_says_what_was_trained_on_and_compared_with(run, recipe: Recipe) -> None:
    outcome, evaluations, _ = run[0]()[0]
    row = report_row(evaluations[0], outcome, recipe, "random", 1.0)
    assert (row["trained_on"], row["references"], row["shots"], row["dataset"]) == (
        "mvtec",
        "seed 0",
        2,
        "visa",
    )


def test_means_are_unweighted_over_categories() -> None:
    one, two = (ResADResult(*[value] * 7) for value in (0.5, 1.0))
    assert mean_scores([PaperScores(one, one, two), PaperScores(two, one, two)]).logps.image_auroc == 0.75
