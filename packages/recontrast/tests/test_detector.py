from dataclasses import replace

import pytest
import torch

from adcommon.data.preprocess import Preprocess
from adcommon.testing.arithmetic import assert_near, varied_images
from recontrast.detector import ReContrastDetector, combine, make_preprocess
from recontrast.model import build
from recontrast.recipes import MVTEC, OWN

RECIPE = replace(OWN, backbone="test_efficientnet", image_size=64)


@pytest.fixture(scope="module")
def detector() -> ReContrastDetector:
    torch.manual_seed(0)
    return ReContrastDetector(build(RECIPE, weights="random"), Preprocess(image_size=64))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_scores_do_not_depend_on_how_images_are_batched(
    detector: ReContrastDetector, images: torch.Tensor
) -> None:
    whole = detector.score(images)
    order = torch.tensor([2, 0, 3, 1])
    permuted = detector.score(images[order])
    torch.testing.assert_close(permuted.image_scores, whole.image_scores[order], rtol=1e-5, atol=1e-6)
    assert whole.anomaly_maps is not None
    single = detector.score(images[1:2]).anomaly_maps
    torch.testing.assert_close(single, whole.anomaly_maps[1:2], rtol=1e-5, atol=1e-5)


def test_a_model_left_in_training_mode_is_put_in_evaluation_mode(images: torch.Tensor) -> None:
    model = build(RECIPE, weights="random").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ReContrastDetector(model, Preprocess(image_size=64)).score(images)
    assert not model.decoder.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_identical_features_give_a_zero_map_and_opposite_ones_the_largest() -> None:
    zero = combine([torch.zeros(2, side, side) for side in (16, 8, 4)] * 2, (64, 64), "sum")
    assert torch.equal(zero, torch.zeros_like(zero))
    largest = combine([torch.full((2, side, side), 2.0) for side in (16, 8, 4)] * 2, (64, 64), "sum")
    torch.testing.assert_close(largest, torch.full_like(largest, 12.0))


def test_the_mean_protocol_darkens_the_border_and_the_sum_does_not() -> None:
    flat = [torch.ones(1, side, side) for side in (16, 8, 4)] * 2
    mean, total = combine(flat, (64, 64), "mean"), combine(flat, (64, 64), "sum")
    torch.testing.assert_close(mean[0, 32, 32], torch.tensor(1.0))
    assert mean[0, 0, 0] < 0.5
    torch.testing.assert_close(total, torch.full_like(total, 6.0))


@pytest.mark.parametrize("image_score", ["max", "mean", "top1"])
def test_image_scores_are_reductions_of_the_map(
    detector: ReContrastDetector, images: torch.Tensor, image_score: str
) -> None:
    same = ReContrastDetector(detector.model, detector.preprocess, image_score=image_score)
    prediction = same.score(images)
    assert prediction.anomaly_maps is not None
    flat = prediction.anomaly_maps.flatten(1)
    expected = {
        "max": flat.amax(1),
        "mean": flat.mean(1),
        "top1": flat.topk(int(0.01 * flat.shape[1])).values.mean(1),
    }[image_score]
    torch.testing.assert_close(prediction.image_scores, expected)


def test_preprocessing_follows_the_backbones_weights_and_the_recipe() -> None:
    assert make_preprocess(MVTEC).mean == pytest.approx((0.485, 0.456, 0.406))
    lite = make_preprocess(replace(OWN, backbone="tf_efficientnet_lite0.in1k"))
    assert lite.mean == (0.5, 0.5, 0.5)
    assert lite.upright
    assert make_preprocess(MVTEC).mask_rule == "any"


def test_bf16_moves_scores_little(detector: ReContrastDetector) -> None:
    assert_near(detector, varied_images(), 0.03)


@pytest.mark.slow
def test_compiled_it_says_the_same(detector: ReContrastDetector) -> None:
    assert_near(detector, varied_images(), 1e-4, precision=None, compiles=True)
