from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adcommon.data import load_splits
from resad.backbone import build_backbone, make_preprocess
from resad.calibrate import _divide, score_places, score_range
from resad.data import TrainingData
from resad.model import ResAD
from resad.network.residual import References
from resad.recipes import Recipe


@pytest.fixture
def parts(trees: Path, recipe: Recipe):
    torch.manual_seed(0)
    backbone = build_backbone(recipe, "random")
    splits = load_splits("mvtec", trees, ("bottle", "cable"))

    def make(**changed: object):
        new = replace(recipe, **changed)
        data = TrainingData(splits, backbone, make_preprocess(new), new, memory_bytes=2**28)
        return ResAD(list(backbone.channels), new), data, new

    return make


def test_constants_bound_the_likelihoods_they_came_from(parts) -> None:
    model, data, recipe = parts()
    scale = score_range(model, data, recipe)
    assert len(scale.levels) == 2
    assert 0 < scale.total <= 2 + 1e-5
    assert score_range(model, data, recipe) == scale


def test_no_image_is_its_own_reference() -> None:
    chosen, rest = _divide(list(range(10)), 4, [0, 1])
    assert len(chosen) == 4
    assert sorted(chosen + rest) == list(range(10))
    assert _divide([3, 4], 8, [0, 1])[0] != _divide([3, 4], 8, [0, 1])[1]


def test_places_are_scored_in_order_whatever_the_batch(parts) -> None:
    model, data, recipe = parts()
    model.eval()
    references = References.of(data.store.batch([6, 7]))
    small, big = (
        score_places(model, data, [3, 0, 5, 1], references, replace(recipe, test_batch_size=size))
        for size in (1, 4)
    )
    for one, other in zip(small, big, strict=True):
        torch.testing.assert_close(one.probability, other.probability)
