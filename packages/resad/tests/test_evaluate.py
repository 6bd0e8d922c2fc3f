from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adcommon.data import load_splits
from adcommon.data.normalise import normalise
from adcommon.metrics import auroc
from adcommon.models.anomaly_maps import max_score
from adcommon.types.records import Split
from resad.backbone import build_backbone, make_preprocess
from resad.detector import FewShotModel, ScoreRange, level_scores, merged_map
from resad.evaluate import (
    PaperScores,
    evaluate,
    evaluate_paper,
    facts,
    mean_scores,
    report_rows,
    score_target,
)
from resad.metrics import ResADResult
from resad.model import ResAD
from resad.recipes import Recipe
from resad.references import ReferenceSource, Target, encode, make_targets

SCALE = ScoreRange((0.0, 0.0), 2.0)


@pytest.fixture
def parts(trees: Path, recipe: Recipe):
    """Categories' images, and an untrained model."""
    torch.manual_seed(0)
    backbone, preprocess = build_backbone(recipe, "random"), make_preprocess(recipe)
    split = load_splits("visa", trees, ("candle",))["candle"]
    return split, FewShotModel(backbone, ResAD(list(backbone.channels), recipe), preprocess, SCALE)


def target_of(parts, recipe: Recipe, given: Split | None = None, **source: Path) -> Target:
    split, trained = parts
    splits = {"candle": given or split}
    targets = make_targets(
        splits, trained.backbone, trained.preprocess, recipe, ReferenceSource(**source),
        cache=None, memory_bytes=2**28,
    )  # fmt: skip
    return next(targets)


@pytest.fixture
def run(parts, recipe: Recipe):
    """Evaluates an untrained model on one category; keyword arguments change the recipe."""

    def run(given: Split | None = None, scale=SCALE, maps=None, rate=None, **changed: object):
        new = replace(recipe, **changed)
        trained = replace(parts[1], scale=scale)
        target = target_of(parts, new, given)
        return list(evaluate(trained, [target], new, maps=maps, false_alarm_rate=rate))

    return run


def test_both_protocols_are_reported_and_each_has_its_own_constants(run) -> None:
    measured = run(protocol="resad")
    assert [one.shots for one in measured] == [2, 3]
    for one in measured:
        standard, own = one.evaluations
        assert (standard.protocol, own.protocol) == ("standard", "resad")
        assert own.image_auroc == one.paper.merged.image_auroc
        assert own.aupro is None
        assert standard.aupro is not None
        assert own.extra["logps_pixel_auroc"] == one.paper.logps.pixel_auroc
    assert len(run(protocol="standard")[0].evaluations) == 1


def test_without_constants_only_the_papers_rows_are_there(run) -> None:
    assert [part.protocol for part in run(scale=None, protocol="standard")[0].evaluations] == ["resad"]


def test_aupro_is_computed_when_asked_for(run) -> None:
    one = run(protocol="resad", pro=True)[0]
    own = one.evaluations[1]
    assert 0 <= own.aupro <= 1
    assert own.aupro == one.paper.merged.aupro


def test_without_pixel_truth_images_are_measured_and_pixels_left_out(run, parts) -> None:
    split = parts[0]
    blind = Split(split.train, [replace(record, mask=None) for record in split.test])
    for one in run(blind, protocol="resad"):
        standard, own = one.evaluations
        assert standard.pixel_auroc is None
        assert own.pixel_auroc is None
        assert np.isnan(one.paper.merged.pixel_auroc)
        assert 0 <= own.image_auroc <= 1


def test_one_test_image_breaks_nothing(run, parts) -> None:
    single = Split(parts[0].train, parts[0].test[:1])
    with pytest.warns(UserWarning, match="undefined"):
        (first, _) = run(single)
    assert first.evaluations[0].normal + first.evaluations[0].anomalous == 1


def test_a_threshold_and_pictures_belong_to_the_most_references(run, tmp_path: Path) -> None:
    measured = run(rate=0.25, maps=tmp_path / "maps")
    rates = [one.evaluations[0].extra for one in measured]
    assert rates[0] == {}  # two references support no rate
    assert rates[1].keys() == {"detection_rate", "false_alarm_rate"}
    assert [one.evaluations[0].extra for one in run(rate=0.2)] == [{}, {}]  # nor do three a fifth
    assert len(list((tmp_path / "maps/candle").glob("*/*.jpg"))) == 6


def test_image_auroc_is_that_of_the_maps_maxima(run, parts, recipe: Recipe) -> None:
    levels = score_target(parts[1].model, target_of(parts, recipe), recipe)["seed 0", 2]
    assert len(levels[0].normal) == 6
    labels = np.array([record.label for record in parts[0].test])
    scale = ScoreRange.of([level.normal for level in levels], (32, 32))
    scores = max_score(merged_map(levels, (32, 32), scale)).numpy()
    assert run()[0].paper.merged.image_auroc == pytest.approx(auroc(scores, labels), abs=1e-5)


def test_in_the_middle_of_a_training_only_the_papers_numbers_are_taken(run, parts, recipe: Recipe) -> None:
    _, trained = parts
    interim = evaluate_paper(trained.model, trained.preprocess, [target_of(parts, recipe)], recipe)
    assert [one.paper for one in interim] == [one.paper for one in run()]
    assert [list(one.evaluations) for one in interim] == [[], []]


def test_a_row_says_what_was_trained_on_and_compared_with(run, recipe: Recipe) -> None:
    row = report_rows(run(), facts(recipe, "random"), seconds=1.0)[0]
    assert (row["trained_on"], row["references"], row["shots"], row["dataset"]) == (
        "mvtec",
        "seed 0",
        2,
        "visa",
    )


def test_scores_are_a_detectors_for_every_draw_and_number(parts, recipe: Recipe) -> None:
    _, trained = parts
    recipe = replace(recipe, reference_seeds=(0, 5))
    target = target_of(parts, recipe)
    found = score_target(trained.model, target, recipe)
    assert list(found) == [("seed 0", 2), ("seed 0", 3), ("seed 5", 2), ("seed 5", 3)]
    detector = trained.bind(target.draws[1].references.first(2))
    preprocess = trained.preprocess
    images = normalise(np.stack([preprocess.pixels(record.image) for record in target.records]), preprocess)
    expected = level_scores(trained.model, trained.backbone(images), detector.references)
    for got, wanted in zip(found["seed 5", 2], expected, strict=True):
        torch.testing.assert_close(got.normal, wanted.normal, atol=1e-4, rtol=1e-4)


def test_aligned_images_are_compared_with_their_own_references(parts, recipe: Recipe, tmp_path: Path) -> None:
    split, trained = parts
    np.save(tmp_path / "candle_knn_indices.npy", np.array([[5, 0, 1]] * 3 + [[2, 3, 4]] * 3))
    target = target_of(parts, recipe, aligned=tmp_path)
    found = score_target(trained.model, target, recipe)
    assert list(found) == [("aligned", 2), ("aligned", 3)]
    own = encode(trained.backbone, [split.train[place].image for place in (2, 3)], trained.preprocess)
    expected = level_scores(trained.model, target.store.batch([4]), own)
    got = found["aligned", 2][1].normal[[4]]
    torch.testing.assert_close(got, expected[1].normal, atol=1e-4, rtol=1e-4)


def test_means_are_unweighted_over_categories() -> None:
    one, two = (ResADResult(*[value] * 7) for value in (0.5, 1.0))
    assert mean_scores([PaperScores(one, one, two), PaperScores(two, one, two)]).logps.image_auroc == 0.75
