from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from adcommon.deploy.exporting.export import export
from adcommon.deploy.load import from_detector
from adcommon.testing.arithmetic import assert_near, varied_images
from adcommon.types.prediction import Detector
from realnet.detector import RealNetDetector, make_preprocess


def detector(make_model, tiny) -> RealNetDetector:
    return RealNetDetector(make_model(), make_preprocess(tiny), tiny)


def test_maps_are_probabilities_and_scores_their_highest_local_mean(make_model, tiny, images) -> None:
    scored = detector(make_model, tiny)
    assert isinstance(scored, Detector)
    prediction = scored.score(images)
    maps = prediction.anomaly_maps
    assert maps.shape == (3, 64, 64)
    assert (maps >= 0).all()
    assert (maps <= 1).all()
    assert torch.allclose(maps, scored.model(images).logits.softmax(1)[:, 1])
    assert torch.allclose(prediction.image_scores, F.avg_pool2d(maps, 16, 1).amax(dim=(1, 2)))


def test_scores_do_not_depend_on_the_batch(make_model, tiny, images) -> None:
    scored = detector(make_model, tiny)
    together = scored.score(images)
    for place, image in enumerate(images):
        alone = scored.score(image[None])
        assert torch.allclose(alone.anomaly_maps[0], together.anomaly_maps[place], atol=1e-5)
        assert torch.allclose(alone.image_scores[0], together.image_scores[place], atol=1e-5)


def test_a_model_in_training_is_put_in_evaluation_mode(make_model, tiny) -> None:
    model = make_model().train()
    before = model.rrs.bn_idx.running_mean.clone()
    RealNetDetector(model, make_preprocess(tiny), tiny).score(torch.randn(2, 3, 64, 64))
    assert not model.rrs.training
    assert torch.equal(model.rrs.bn_idx.running_mean, before)


def test_images_are_normalised_as_the_backbones_weights_want(tiny) -> None:
    assert make_preprocess(tiny).mean == (0.485, 0.456, 0.406)
    assert make_preprocess(tiny).size == 64


@pytest.mark.slow
def test_exported_it_scores_any_batch_as_torch_does(make_model, tiny, tmp_path: Path) -> None:
    model = from_detector(
        detector(make_model, tiny), {"method": "realnet", "category": None, "threshold": None}
    )
    assert export(model, tmp_path / "a.onnx").difference < 1e-4


def test_bf16_moves_scores_little(make_model, tiny) -> None:
    assert_near(detector(make_model, tiny), varied_images(), 0.03)


@pytest.mark.slow
def test_compiled_it_says_the_same(make_model, tiny) -> None:
    assert_near(detector(make_model, tiny), varied_images(), 1e-4, precision=None, compiles=True)
