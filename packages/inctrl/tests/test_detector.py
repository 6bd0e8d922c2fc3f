from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adcommon.deploy.exporting.export import export
from adcommon.deploy.load import from_detector
from adcommon.errors import BadValue
from adcommon.evaluation.collect import ScoresFeatures
from adcommon.testing.arithmetic import assert_near, varied_images
from adcommon.types.prediction import Detector
from inctrl.backbone import make_preprocess
from inctrl.detector import InCTRLDetector
from inctrl.model import InCTRL
from inctrl.references import References, encode_references


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def detector(trained, images) -> InCTRLDetector:
    return trained.scorer.bind("bolt", References("given", images[3:]))


def test_it_is_a_detector_whose_scores_are_probabilities_like(detector, images) -> None:
    assert isinstance(detector, Detector)
    assert isinstance(detector, ScoresFeatures)
    prediction = detector.score(images[:3])
    assert prediction.anomaly_maps.shape == (3, 64, 64)
    assert ((prediction.image_scores > 0) & (prediction.image_scores < 1)).all()


def test_scores_do_not_depend_on_the_batch(detector, images) -> None:
    together = detector.score(images)
    order = torch.tensor([4, 0, 2, 1, 3])
    torch.testing.assert_close(detector.score(images[order]).image_scores, together.image_scores[order])
    alone = torch.cat([detector.score(image[None]).image_scores for image in images])
    torch.testing.assert_close(alone, together.image_scores, rtol=1e-4, atol=1e-5)


def test_a_reference_itself_has_no_map_and_others_have(detector, images) -> None:
    maps = detector.score(images).anomaly_maps.amax(dim=(1, 2))
    assert maps[3:].max() < 1e-5
    assert maps[:3].min() > 1e-3


def test_the_order_of_references_is_free_and_kept_features_give_the_same(trained, detector, images) -> None:
    swapped = trained.scorer.bind("bolt", References("given", images[3:].flip(0)))
    torch.testing.assert_close(swapped.score(images).image_scores, detector.score(images).image_scores)
    kept = detector.score_features(trained.scorer.backbone.tower(images))
    assert torch.equal(kept.image_scores, detector.score(images).image_scores)


def test_a_turned_reference_is_known_where_references_are_turned(trained, images) -> None:
    turned = images[3:].rot90(1, dims=(2, 3))
    plain, all_ways = (replace(trained.scorer, rotations=count) for count in (1, 4))
    maps = [
        model.bind("bolt", References("given", images[3:])).score(turned).anomaly_maps.amax()
        for model in (plain, all_ways)
    ]
    assert maps[0] > 1e-3
    assert maps[1] < 1e-5


def test_a_relative_map_says_how_residuals_compare_with_those_between_references(trained, images) -> None:
    few_shot = trained.scorer
    few_shot.model.relative = True
    references = References("given", images[2:])
    relative = few_shot.bind("bolt", references)
    few_shot.model.relative = False
    plain = few_shot.bind("bolt", references).score(images).anomaly_maps
    maps = relative.score(images).anomaly_maps
    assert float(relative.own) > 1e-3
    assert ((maps >= 0) & (maps < 1)).all()
    assert maps[2:].max() < 1e-2
    assert torch.equal(maps[0].flatten().argmax(), plain[0].flatten().argmax())
    few_shot.model.relative = True
    with pytest.raises(BadValue, match="give at least 2"):
        few_shot.bind("bolt", References("given", images[:1]))


@pytest.mark.parametrize(
    ("rotations", "relative", "tiles"),
    [(1, False, 1), (4, False, 1), (1, True, 1), (2, True, 1), (2, True, 2)],
)
def test_a_reference_left_out_is_scored_by_the_others(trained, images, rotations, relative, tiles) -> None:
    few_shot = replace(trained.scorer, rotations=rotations)
    few_shot.model.relative = relative
    images = torch.cat([images, images.flip(3)])[: 5 * tiles]

    def bound(some: torch.Tensor) -> InCTRLDetector:
        return few_shot.bind("bolt", References("given", some, tiles=tiles))

    scores = bound(images).left_out().image_scores
    for place, first in enumerate(range(0, len(images), tiles)):
        others = torch.cat([images[:first], images[first + tiles :]])
        wanted = bound(others).score(images[first : first + tiles]).image_scores.max()
        torch.testing.assert_close(scores[place], wanted, rtol=1e-4, atol=1e-5)
    assert len(scores) == 5
    assert len(bound(images[: 2 * tiles]).left_out().image_scores) == 0


def test_with_text_the_category_counts(with_text, clip_recipe) -> None:
    torch.manual_seed(0)
    model = InCTRL(with_text.tower.embed, with_text.patches)
    images = torch.randn(3, 3, 32, 32)
    references = encode_references(with_text.tower, images[:1])
    scores = []
    for category in ("candle", "metal_nut"):
        text = with_text.text([category])
        detector = InCTRLDetector(model, with_text.tower, text, references, make_preprocess(clip_recipe))
        scores.append(detector.score(images).image_scores)
    assert not torch.equal(scores[0], scores[1])


@pytest.mark.slow
def test_exported_it_scores_any_batch_as_torch_does(detector: InCTRLDetector, tmp_path: Path) -> None:
    model = from_detector(detector, {"method": "inctrl", "category": None, "threshold": None})
    assert export(model, tmp_path / "a.onnx").difference < 1e-4


def test_bf16_moves_scores_little(detector) -> None:
    assert_near(detector, varied_images(), 0.03)


@pytest.mark.slow
def test_compiled_it_says_the_same(detector) -> None:
    assert_near(detector, varied_images(), 1e-4, precision=None, compiles=True)
