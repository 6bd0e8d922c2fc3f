from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adcommon.data.preprocess import Preprocess
from adcommon.deploy.exporting.export import export
from adcommon.deploy.load import from_detector
from adcommon.testing.arithmetic import assert_near, varied_images
from adcommon.types.prediction import Detector
from uniad.detector import UniADDetector, image_scores, make_preprocess
from uniad.recipes import CIFAR10, OWN


@pytest.fixture
def detector(make_model) -> UniADDetector:
    return UniADDetector(make_model(), Preprocess(image_size=64))


def test_it_is_a_detector_whose_maps_lie_on_the_image(detector, images) -> None:
    assert isinstance(detector, Detector)
    prediction = detector.score(images)
    assert prediction.anomaly_maps.shape == (3, 64, 64)
    assert (prediction.anomaly_maps >= 0).all()


def test_scores_follow_the_images_through_order_and_batches(detector, images) -> None:
    whole = detector.score(images)
    turned = detector.score(images.flip(0))
    torch.testing.assert_close(turned.image_scores.flip(0), whole.image_scores)
    alone = torch.cat([detector.score(image[None]).anomaly_maps for image in images])
    torch.testing.assert_close(alone, whole.anomaly_maps, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("whiten", [False, True])
def test_kept_features_give_the_scores_of_the_images(make_model, images, whiten) -> None:
    detector = UniADDetector(make_model(whiten=whiten), Preprocess(image_size=64))
    if whiten:
        detector.model.whitening.fit([detector.model.backbone(images)[0]])
    (features,) = detector.model.backbone(images)
    kept, direct = detector.score_features([features]), detector.score(images)
    assert torch.equal(kept.image_scores, direct.image_scores)
    assert torch.equal(kept.anomaly_maps, direct.anomaly_maps)


def test_a_prediction_has_every_image_score_of_the_paper(detector, images) -> None:
    prediction = detector.score(images)
    by_hand = {name: reduce(prediction.anomaly_maps) for name, reduce in image_scores(16).items()}
    assert prediction.extra_scores.keys() == by_hand.keys()
    assert all(torch.equal(prediction.extra_scores[name], scores) for name, scores in by_hand.items())
    assert torch.equal(prediction.image_scores, by_hand["max"])


def test_each_image_score_reads_its_own_property_of_the_map() -> None:
    maps = torch.zeros(3, 32, 32)
    maps[0, :16, :16] = 1  # one hot square
    maps[1] = 0.5  # high everywhere
    maps[2, ::8, ::8] = 10  # single hot pixels
    scores = {name: reduce(maps) for name, reduce in image_scores(16).items()}
    assert scores["max"].tolist() == pytest.approx([1.0, 0.5, 4 * 10 / 256])
    assert scores["mean"].argmax() == 1
    assert scores["std"].argmax() == 2


def test_preprocessing_follows_the_recipe_and_the_backbones_weights() -> None:
    cifar = make_preprocess(CIFAR10)
    assert (cifar.image_size, cifar.interpolation) == (224, "lanczos")
    assert cifar.mean == pytest.approx((0.485, 0.456, 0.406))
    assert make_preprocess(OWN).upright


def test_scoring_leaves_the_global_generator_alone(detector, images) -> None:
    before = torch.get_rng_state()
    detector.score(images)
    assert torch.equal(before, torch.get_rng_state())


def test_the_windows_of_a_recipe_have_height_and_width() -> None:
    maps = torch.rand(2, 20, 24, generator=torch.Generator().manual_seed(1))
    recipe = replace(OWN, image_size=64, pool=(8, 12))
    by_hand = [
        max(image[y : y + 8, x : x + 12].mean().item() for y in range(13) for x in range(13))
        for image in maps
    ]
    assert image_scores(recipe.window)["max"](maps).tolist() == pytest.approx(by_hand)
    assert replace(recipe, pool=(8,)).window == (8, 8)


@pytest.mark.slow
def test_exported_it_scores_any_batch_as_torch_does(detector: UniADDetector, tmp_path: Path) -> None:
    model = from_detector(detector, {"method": "uniad", "category": None, "threshold": None})
    assert export(model, tmp_path / "a.onnx").difference < 1e-4


@pytest.mark.parametrize("whiten", [False, True])
def test_bf16_moves_scores_little(make_model, whiten) -> None:
    images = varied_images()
    detector = UniADDetector(make_model(whiten=whiten), Preprocess(image_size=64))
    if whiten:
        detector.model.whitening.fit([detector.model.backbone(images)[0]])
    assert_near(detector, images, 0.03)


@pytest.mark.slow
def test_compiled_it_says_the_same(detector) -> None:
    assert_near(detector, varied_images(), 1e-4, precision=None, compiles=True)
