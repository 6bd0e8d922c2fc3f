from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adcommon.data.normalise import normalise
from adcommon.deploy.exporting.export import export
from adcommon.deploy.load import from_detector
from adcommon.errors import BadValue
from adcommon.io.images import list_images
from adcommon.testing.arithmetic import assert_near, varied_images
from resad.backbone import build_backbone, make_preprocess
from resad.detector import (
    FewShotModel,
    ResADDetector,
    ScoreRange,
    likelihood_map,
    nested_scores,
    normality,
    probability_map,
)
from resad.model import ResAD
from resad.recipes import Recipe
from resad.references import encode

SCALE = ScoreRange((0.0, 0.0), 2.0)


@pytest.fixture
def detector(trees: Path, recipe: Recipe) -> ResADDetector:
    torch.manual_seed(0)
    backbone, preprocess = build_backbone(recipe, "random"), make_preprocess(recipe)
    references = encode(backbone, list_images(trees / "visa/candle/train/good")[:3], preprocess)
    model = ResAD(list(backbone.channels), recipe)
    return FewShotModel(backbone, model, preprocess, SCALE).bind(references)


def test_score_does_not_depend_on_the_batch_or_its_order(detector: ResADDetector) -> None:
    images = torch.randn(4, 3, 32, 32)
    together = detector.score(images)
    turned = detector.score(images.flip(0))
    torch.testing.assert_close(together.image_scores, turned.image_scores.flip(0))
    torch.testing.assert_close(together.anomaly_maps[1:2], detector.score(images[1:2]).anomaly_maps)
    assert together.anomaly_maps.shape == (4, 32, 32)
    torch.testing.assert_close(together.image_scores, together.anomaly_maps.amax(dim=(1, 2)))


def test_one_image_alone_is_scored(detector: ResADDetector) -> None:
    assert detector.score(torch.randn(1, 3, 32, 32)).anomaly_maps.shape == (1, 32, 32)


def test_nested_scores_are_those_of_each_number_alone(detector: ResADDetector) -> None:
    features = detector.backbone(torch.randn(2, 3, 32, 32))
    found = nested_scores(detector.model, features, detector.references, [1, 3])
    alone = nested_scores(detector.model, features, detector.references.first(1), [1])
    for together, one in zip(found[1], alone[1], strict=True):
        torch.testing.assert_close(together.normal, one.normal)
    assert not torch.allclose(found[1][0].normal, found[3][0].normal)


def test_likelihoods_are_scaled_by_the_sets_own_maxima() -> None:
    levels = [torch.randn(3, 4, 4), torch.randn(3, 2, 2)]
    scale = ScoreRange.of(levels, (8, 8))
    assert scale.levels == tuple(float(level.max()) for level in levels)
    assert scale.total == pytest.approx(float(normality(levels, (8, 8), scale.levels).max()))
    assert (scale.total - normality(levels, (8, 8), scale.levels)).min() == 0
    shifted = [level + 5 for level in levels]
    torch.testing.assert_close(
        likelihood_map(shifted, (8, 8), ScoreRange.of(shifted, (8, 8))), likelihood_map(levels, (8, 8), scale)
    )


def test_an_unlikely_position_stands_out_in_both_maps() -> None:
    normal = torch.zeros(1, 4, 4)
    normal[0, 0, 3] = -5
    probability = (normal != 0).float()
    scale = ScoreRange.of([normal], (16, 16))
    for maps in (likelihood_map([normal], (16, 16), scale), probability_map([probability], (16, 16))):
        row, column = divmod(int(maps[0].argmax()), 16)
        assert (row, column) == (0, 15)


def test_without_constants_nothing_becomes_a_detector(detector: ResADDetector) -> None:
    bare = FewShotModel(detector.backbone, detector.model, detector.preprocess, None)
    with pytest.raises(BadValue, match="resad-evaluate"):
        bare.bind(detector.references)


@pytest.mark.parametrize(("turned", "tile"), [(1, None), (4, None), (2, 24)])
def test_a_reference_left_out_is_scored_by_the_others(
    trees: Path, recipe: Recipe, turned: int, tile: int | None
) -> None:
    torch.manual_seed(0)
    backbone, preprocess = build_backbone(recipe, "random"), replace(make_preprocess(recipe), tile=tile)
    files = list_images(trees / "visa/candle/train/good")[:4]
    assert len(preprocess.read(files[0])[0]) == (1 if tile is None else 4)
    few_shot = FewShotModel(backbone, ResAD(list(backbone.channels), recipe), preprocess, SCALE)
    scores = few_shot.bind(encode(backbone, files, preprocess, rotations=turned)).left_out().image_scores
    for place, file in enumerate(files):
        others = encode(backbone, files[:place] + files[place + 1 :], preprocess, rotations=turned)
        tiles = few_shot.bind(others).score(normalise(preprocess.read(file)[0], preprocess))
        torch.testing.assert_close(tiles.image_scores.max(), scores[place], rtol=1e-4, atol=1e-5)
    assert len(few_shot.bind(encode(backbone, files[:2], preprocess)).left_out().image_scores) == 0


@pytest.mark.slow
def test_exported_it_scores_any_batch_as_torch_does(detector: ResADDetector, tmp_path: Path) -> None:
    model = from_detector(detector, {"method": "resad", "category": None, "threshold": None})
    assert export(model, tmp_path / "a.onnx").difference < 1e-4


def test_bf16_moves_scores_little(detector: ResADDetector) -> None:
    assert_near(detector, varied_images(size=32), 0.03)


@pytest.mark.slow
def test_compiled_it_says_the_same(detector: ResADDetector) -> None:
    assert_near(detector, varied_images(size=32), 1e-4, precision=None, compiles=True)
