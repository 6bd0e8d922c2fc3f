from pathlib import Path

import pytest
import torch

from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.types.prediction import Detector
from adcommon.types.records import Record
from inctrl.backbone import make_preprocess
from inctrl.detector import InCTRLDetector, load_detector, load_trained
from inctrl.model import InCTRL
from inctrl.network.features import as_features
from inctrl.references import References, encode_references
from inctrl.train import write_model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def detector(trained, images) -> InCTRLDetector:
    return trained.detector("bolt", References("given", images[3:]))


def test_it_is_a_detector_whose_scores_are_probabilities_like(detector, images) -> None:
    assert isinstance(detector, Detector)
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
    swapped = trained.detector("bolt", References("given", images[3:].flip(0)))
    torch.testing.assert_close(swapped.score(images).image_scores, detector.score(images).image_scores)
    features = as_features(trained.backbone.tower(images))
    assert torch.equal(detector.score_features(features).image_scores, detector.score(images).image_scores)


def test_with_text_the_category_counts(with_text, clip_recipe) -> None:
    torch.manual_seed(0)
    model = InCTRL(with_text.tower.embed, with_text.patches)
    images = torch.randn(3, 3, 32, 32)
    references = encode_references(with_text.tower, images[:1])
    scores = []
    for category in ("candle", "metal_nut"):
        text = with_text.text([category])[category]
        detector = InCTRLDetector(model, with_text.tower, text, references, make_preprocess(clip_recipe))
        scores.append(detector.score(images).image_scores)
    assert not torch.equal(scores[0], scores[1])


@pytest.fixture
def folder(trained, tmp_path: Path) -> Path:
    records = [Record(Path("x.png"), "bottle", 0)]
    write_model(tmp_path / "model", trained, records, trained.backbone.digest(), epoch=3, rows=[])
    return tmp_path / "model"


def test_a_model_folder_has_the_trained_part_only_and_comes_back(folder: Path, trained) -> None:
    assert (folder / "model.safetensors").stat().st_size < 2e6
    again = load_trained(folder)
    assert again.recipe == trained.recipe
    assert again.shots == 2
    for name, value in trained.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value)


def test_other_frozen_weights_are_refused(folder: Path, tmp_path: Path, trained) -> None:
    state = {name: value + 0.01 for name, value in trained.backbone.tower.network.state_dict().items()}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WrongCheckpoint, match="trained on other weights of 'resnet18'"):
        load_trained(folder, weights=str(tmp_path / "other.pth"))


def test_a_detector_asks_for_references(folder: Path) -> None:
    with pytest.raises(BadValue, match="--references DIR"):
        load_detector(folder)
