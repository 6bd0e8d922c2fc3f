from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adcommon.data.preprocess import Preprocess
from adcommon.errors import WrongCheckpoint
from adcommon.models.checkpoint import save_trained
from recontrast.checkpoint import load_detector, load_trained
from recontrast.detector import make_detector
from recontrast.evaluate import facts
from recontrast.model import build
from recontrast.published import PAPER
from recontrast.recipes import OWN

RECIPE = replace(OWN, backbone="resnet18", image_size=64, evaluate_every=7)


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
    with pytest.raises(WrongCheckpoint, match=r"missing: encoder\.conv1\.weight"):
        load_detector(tmp_path / "other")
