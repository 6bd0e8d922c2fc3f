import numpy as np
import pytest
import torch
from PIL import Image

from adcommon.data import load_splits
from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, DatasetNotFound
from uniad.detector import UniADDetector
from uniad.evaluate import save_features
from uniad.pictures.decoder import VisDecoder
from uniad.pictures.visualise import decode_queries, draw_queries, draw_reconstructions, draw_saved_features

PREPROCESS = Preprocess(image_size=64)


@pytest.fixture
def detector(make_model) -> UniADDetector:
    return UniADDetector(make_model(), PREPROCESS)


@pytest.fixture
def decoder() -> VisDecoder:
    torch.manual_seed(0)
    return VisDecoder(104).eval()


@pytest.fixture
def records(mvtec):
    return load_splits("mvtec", mvtec, ("bottle",))["bottle"].test


def test_saved_features_draw_the_pictures_of_the_model(detector, decoder, records, tmp_path) -> None:
    assert draw_reconstructions(detector, decoder, records, tmp_path / "direct", batch_size=3) == 6
    save_features(detector, {"bottle": records}, tmp_path / "features", batch_size=3)
    draw_saved_features(tmp_path / "features/bottle", decoder, PREPROCESS, records, tmp_path / "saved")
    name = f"{records[0].defect}/{records[0].image.stem}.jpg"
    direct, saved = (
        np.asarray(Image.open(tmp_path / kind / name)).astype(int) for kind in ("direct", "saved")
    )
    assert direct.shape == (128, 64, 3)
    assert abs(direct - saved).max() <= 3


def test_pictures_of_whitened_features_are_of_the_backbones(make_model, decoder, records, tmp_path) -> None:
    white = UniADDetector(make_model(whiten=True), PREPROCESS)
    white.model.whitening.mean.fill_(7.0)
    white.model.whitening.factor.mul_(0.5)
    save_features(white, {"bottle": records[:1]}, tmp_path, batch_size=1)
    images = AnomalyDataset(records[:1], PREPROCESS).batch([0]).images
    with torch.inference_mode():
        expected = 2 * white.model(images).rebuilt + 7
    (saved,) = tmp_path.rglob("*.npy")
    assert np.load(saved) == pytest.approx(expected[0].numpy(), rel=1e-4)
    with pytest.raises(BadValue, match="--no-whiten"):
        draw_queries(white, decoder)


def test_missing_features_are_named(detector, decoder, records, tmp_path) -> None:
    with pytest.raises(DatasetNotFound, match="--save-features"):
        draw_saved_features(tmp_path, decoder, PREPROCESS, records, tmp_path / "out")


def test_queries_make_a_tile_for_each_baseline_and_layer(detector, decoder) -> None:
    sheet = draw_queries(detector, decoder, captions=False)
    assert sheet.shape == (64, 64 * (3 + 2), 3)
    captioned = draw_queries(detector, decoder, captions=True)
    assert (sheet != captioned).any(axis=(0, 2)).sum() > 100
    assert np.array_equal(sheet, draw_queries(detector, decoder, captions=False))


def test_batch_statistics_change_the_picture_and_never_the_decoder(decoder) -> None:
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    queries, projection = [torch.randn(16, 8)], torch.nn.Linear(8, 104)
    with torch.no_grad():
        running, batch = (
            decode_queries(queries, (4, 4), projection, decoder, PREPROCESS, batch_statistics=flag)
            for flag in (False, True)
        )
    assert not torch.allclose(running, batch)
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())
    assert not decoder.training
