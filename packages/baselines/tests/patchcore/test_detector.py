from dataclasses import replace

import pytest
import torch

from baselines.features import make_preprocess
from baselines.patchcore.detector import make_detector
from baselines.patchcore.model import build


@pytest.mark.parametrize("how", ["reweighted", "max", "top1", "patches1"])
def test_a_strange_spot_is_the_highest_place_of_the_map(patchcore_recipe, images, how) -> None:
    recipe = replace(patchcore_recipe, image_score=how, coreset=0.5)
    model = build(recipe, weights="random")
    model.fit([images], recipe, 6)
    detector = make_detector(model, make_preprocess(recipe), recipe)
    spoiled = images[:1].clone()
    spoiled[:, :, 32:56, 8:32] = 6
    prediction = detector.score(torch.cat([images[:1], spoiled]))
    assert prediction.anomaly_maps is not None
    row, column = divmod(int(prediction.anomaly_maps[1].argmax()), 64)
    assert 24 <= row < 64
    assert 0 <= column < 40
    assert prediction.image_scores[1] > prediction.image_scores[0]


def test_a_share_of_the_patches_makes_the_score(patchcore_recipe, images) -> None:
    recipe = replace(patchcore_recipe, image_score="patches1")
    model = build(recipe, weights="random")
    model.fit([images], recipe, 6)
    scores = make_detector(model, make_preprocess(recipe), recipe).score(images).image_scores
    torch.testing.assert_close(scores, model(images)[0].amax(dim=(1, 2)))  # 1 % of 64 patches is one
