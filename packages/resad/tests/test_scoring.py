from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adcommon.data import load_splits
from adcommon.data.normalise import normalise
from resad.backbone import build_backbone, make_preprocess
from resad.detector import ResADDetector, ScoreRange, level_scores
from resad.model import ResAD
from resad.recipes import Recipe
from resad.references import encode
from resad.scoring import score_places, score_target
from resad.targets import ReferenceSource, make_target


@pytest.fixture
def parts(trees: Path, recipe: Recipe):
    torch.manual_seed(0)
    backbone, preprocess = build_backbone(recipe, "random"), make_preprocess(recipe)
    return (
        load_splits("visa", trees, ("candle",))["candle"],
        backbone,
        preprocess,
        ResAD(list(backbone.channels), recipe),
    )


def target_of(parts, recipe: Recipe, **source: Path):
    split, backbone, preprocess, _ = parts
    given = ReferenceSource(**source)
    return make_target("candle", split, backbone, preprocess, recipe, given, cache=None, memory_bytes=2**28)


def test_outcomes_are_a_detectors_scores_for_every_draw_and_number(parts, recipe: Recipe) -> None:
    _, backbone, preprocess, model = parts
    recipe = replace(recipe, reference_seeds=(0, 5))
    target = target_of(parts, recipe)
    outcomes = list(score_target(model, target, recipe))
    assert [(outcome.draw, outcome.shots) for outcome in outcomes] == [
        *(("seed 0", 2), ("seed 0", 3), ("seed 5", 2), ("seed 5", 3))
    ]
    scale = ScoreRange((0.0, 0.0), 2.0)
    detector = ResADDetector(
        backbone, model, preprocess, target.draws[1].references.first(2), kind="square", scale=scale
    )
    images = normalise(np.stack([preprocess.pixels(record.image) for record in target.records]), preprocess)
    features = backbone(images)
    for got, expected in zip(
        outcomes[2].levels, level_scores(model, features, detector.references, "square"), strict=True
    ):
        torch.testing.assert_close(got.normal, expected.normal, atol=1e-4, rtol=1e-4)


def test_aligned_images_are_compared_with_their_own_references(parts, recipe: Recipe, tmp_path: Path) -> None:
    split, backbone, preprocess, model = parts
    choice = np.array([[5, 0, 1]] * 3 + [[2, 3, 4]] * 3)
    np.save(tmp_path / "candle_knn_indices.npy", choice)
    outcomes = list(score_target(model, target_of(parts, recipe, aligned=tmp_path), recipe))
    assert [outcome.shots for outcome in outcomes] == [2, 3]
    assert outcomes[0].draw == "aligned"
    own = encode(backbone, [split.train[place].image for place in (2, 3)], preprocess)
    store = target_of(parts, recipe).store
    expected = score_places(model, store, [4], own, recipe)
    torch.testing.assert_close(outcomes[0].levels[1].normal[[4]], expected[1].normal, atol=1e-4, rtol=1e-4)


def test_places_are_scored_in_order_whatever_the_batch(parts, recipe: Recipe) -> None:
    model = parts[3].eval()
    target = target_of(parts, recipe)
    references = target.draws[0].references
    small, big = (
        score_places(model, target.store, [3, 0, 5, 1], references, replace(recipe, test_batch_size=size))
        for size in (1, 4)
    )
    for one, other in zip(small, big, strict=True):
        torch.testing.assert_close(one.probability, other.probability)
