from dataclasses import replace
from pathlib import Path

import pytest
import torch

import adcommon as ad
from adcommon.errors import WrongCheckpoint
from adcommon.testing.alterations import loads_or_is_refused
from baselines import patchcore
from baselines.patchcore.checkpoint import load_detector, load_trained
from baselines.patchcore.recipes import Recipe


@pytest.fixture
def folder(patchcore_recipe, splits, tmp_path) -> Path:
    recipe = replace(patchcore_recipe, calibration_share=0.2, coreset=0.1)
    how = {"device": "cpu", "weights": "random", "cache": False, "false_alarm_rate": 0.5}
    run = patchcore.fit(recipe, splits["bottle"], out=tmp_path / "run", **how)
    return run.models["bottle"]


def test_a_loaded_model_scores_as_the_made_one(folder, splits) -> None:
    trained = load_trained(folder)
    assert isinstance(trained.recipe, Recipe)
    assert (trained.facts.method, trained.categories) == ("patchcore", ("bottle",))
    assert trained.threshold is not None
    image = splits["bottle"].test[0].image
    once, again = load_detector(folder), ad.load(folder)
    pixels = torch.zeros(2, 3, 64, 64)
    assert torch.equal(once.score(pixels).image_scores, trained.scorer.score(pixels).image_scores)
    assert again.predict(image).threshold == trained.threshold.decision


def test_a_folder_without_a_model_is_refused(tmp_path) -> None:
    with pytest.raises(WrongCheckpoint, match=r"config\.json"):
        load_trained(tmp_path)


@pytest.mark.parametrize(
    "count", [8, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_no_value_of_a_config_is_believed(folder, count: int) -> None:
    loads_or_is_refused(folder, load_trained, count)
