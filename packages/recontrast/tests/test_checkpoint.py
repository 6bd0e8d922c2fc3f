from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adcommon.data.preprocess import Preprocess
from adcommon.errors import WrongCheckpoint
from adcommon.models.checkpoint import save_trained
from adcommon.testing.alterations import loads_or_is_refused
from adcommon.types.threshold import Threshold
from recontrast.checkpoint import load_detector, load_trained
from recontrast.detector import make_detector
from recontrast.evaluate import facts
from recontrast.model import build
from recontrast.published import PAPER
from recontrast.recipes import OWN

RECIPE = replace(OWN, backbone="test_efficientnet", image_size=64, evaluate_every=7)


def saved(folder: Path) -> Path:
    model, preprocess = build(RECIPE, weights="random"), Preprocess(image_size=64)
    origin = facts(RECIPE, "random")
    threshold = Threshold(value=0.5, false_alarm_rate=0.05, images=20, supported=True)
    save_trained(
        folder,
        model.state_dict(),
        PAPER,
        origin,
        recipe=RECIPE,
        preprocess=preprocess,
        categories=["bottle"],
        threshold=threshold,
    )
    return folder


def test_a_saved_model_gives_the_same_scores_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    model, preprocess = build(RECIPE, weights="random"), Preprocess(image_size=64)
    detector = make_detector(model, preprocess, RECIPE)

    def save(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
        origin = facts(RECIPE, "random")
        save_trained(
            folder, tensors, PAPER, origin, recipe=RECIPE, preprocess=preprocess, categories=["bottle"]
        )

    tensors = model.state_dict()
    save(tmp_path / "model", tensors)
    trained = load_trained(tmp_path / "model")
    assert trained.recipe == RECIPE
    assert trained.facts == facts(RECIPE, "random")
    assert trained.categories == ("bottle",)
    assert trained.threshold is None
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    # The loaded model is laid out as in training; on some processors that moves the last digit.
    torch.testing.assert_close(
        trained.scorer.score(images).image_scores, detector.score(images).image_scores, atol=1e-5, rtol=0
    )
    assert trained.scorer.preprocess == preprocess

    save(tmp_path / "other", dict(list(tensors.items())[1:]))
    with pytest.raises(WrongCheckpoint, match=r"missing: encoder\.conv_stem\.weight"):
        load_detector(tmp_path / "other")


@pytest.mark.parametrize(
    "count", [8, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_no_value_of_a_config_is_believed(tmp_path: Path, count: int) -> None:
    loads_or_is_refused(saved(tmp_path / "model"), load_trained, count)
