"""Any image gets a row and a picture of its own size; a broken one is reported and stops nobody."""

import csv
import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from adcommon.data.preprocess import Preprocess
from adcommon.deploy.inputs import find_images
from adcommon.deploy.model import Result, from_detector
from adcommon.deploy.predict import predict as predict_with
from adcommon.deploy.predict import summary
from adcommon.errors import BadValue, EmptySplit, OutputFailed
from adcommon.types.prediction import Prediction


class BrightnessDetector:
    """Score: mean brightness in [0, 1]; map: brightness of each pixel."""

    def __init__(self, *, has_maps: bool = True, upright: bool = False) -> None:
        self.preprocess = Preprocess(image_size=32, mean=(0.0,) * 3, std=(1.0,) * 3, upright=upright)
        self.has_maps = has_maps
        self.batches: list[int] = []

    def score(self, images: Tensor) -> Prediction:
        self.batches.append(len(images))
        brightness = images.mean(dim=1)
        return Prediction(brightness.mean(dim=(1, 2)), brightness if self.has_maps else None)


def predict(
    detector: BrightnessDetector, inputs: Path, out: Path, *, threshold: float | None = None, **flags: Any
) -> list[Result]:
    known = None if threshold is None else {"value": threshold}
    config = {"method": "brightness", "category": "photos", "threshold": known}
    return predict_with(from_detector(detector, config), inputs, out, **flags)


def save(path: Path, grey: int, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).convert(mode).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Every kind of file that people have; name -> brightness / 255 = score."""
    folder = tmp_path / "photos"
    save(folder / "b" / "grey.png", 10, (50, 20), "L")
    save(folder / "b" / "palette.png", 20, (33, 47), "P")
    save(folder / "b" / "alpha.png", 30, (20, 20), "RGBA")
    save(folder / "a" / "part.png", 40, (64, 16))
    save(folder / "a" / "part.bmp", 50, (16, 64))
    save(folder / "part.png", 60, (100, 80))
    Image.fromarray(np.full((30, 40), 70 * 257, np.uint16)).save(folder / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20), (80, 80, 80)).save(folder / "turned.png", exif=exif)
    (folder / "broken.png").write_bytes((folder / "part.png").read_bytes()[:60])
    (folder / "page.jpg").write_text("<html>")
    (folder / "notes.txt").write_text("not an image")
    return folder


EXPECTED = {
    "a/part.bmp": 50,
    "a/part.png": 40,
    "b/alpha.png": 30,
    "b/grey.png": 10,
    "b/palette.png": 20,
    "broken.png": None,
    "page.jpg": None,
    "part.png": 60,
    "sixteen.png": 70,
    "turned.png": 80,
}


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 2), (8, 4)])
def test_every_kind_of_image_is_scored_in_order_and_broken_ones_are_reported(
    photos: Path, tmp_path: Path, batch_size: int, workers: int
) -> None:
    out = tmp_path / "out"
    threshold = 35 / 255
    rows = predict(
        BrightnessDetector(), photos, out, threshold=threshold, batch_size=batch_size, workers=workers
    )
    assert [row.path.relative_to(photos).as_posix() for row in rows] == list(EXPECTED)
    for row, grey in zip(rows, EXPECTED.values(), strict=True):
        if grey is None:
            assert (row.score, row.decision) == (None, "unknown")
            assert str(row.path) in str(row.error)
        else:
            assert row.score == pytest.approx(grey / 255, abs=1e-6)
            assert row.decision == ("anomalous" if grey > 35 else "normal")
            assert row.error is None

    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["path", "score", "threshold", "decision", "error"]
    for line, row in zip(table, rows, strict=True):
        assert Path(line["path"]) == row.path
        assert line["decision"] == row.decision
        assert (float(line["score"]) if line["score"] else None) == row.score
        assert bool(line["error"]) == (row.score is None)

    pictures = sorted(path.relative_to(out / "maps").as_posix() for path in (out / "maps").rglob("*.png"))
    assert pictures == [f"{name}.png" for name, grey in EXPECTED.items() if grey is not None]
    page = (out / "maps" / "index.html").read_text(encoding="utf-8")
    assert all(f'"{name}"' in page for name in pictures)
    for name in pictures:
        with Image.open(out / "maps" / name) as picture, Image.open(photos / name[:-4]) as image:
            assert picture.size == image.size


def test_the_picture_shows_where_the_image_is_anomalous(tmp_path: Path) -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[40:60, 60:90] = 255
    path = tmp_path / "part.png"
    Image.fromarray(pixels).save(path)
    predict(BrightnessDetector(), path, tmp_path / "out")
    with Image.open(tmp_path / "out" / "maps" / "part.png.png") as picture:
        shown = np.asarray(picture).sum(axis=2)
    assert shown.shape == (64, 96)
    assert shown[45:55, 65:85].min() > 500
    assert shown[:35].max() < 50


def test_with_upright_the_picture_is_upright_too(photos: Path, tmp_path: Path) -> None:
    for upright, size in ((False, (40, 20)), (True, (20, 40))):
        predict(BrightnessDetector(upright=upright), photos / "turned.png", tmp_path / str(upright))
        with Image.open(tmp_path / str(upright) / "maps" / "turned.png.png") as picture:
            assert picture.size == size


def test_without_a_threshold_nothing_is_decided(photos: Path, tmp_path: Path) -> None:
    rows = predict(BrightnessDetector(), photos / "a", tmp_path / "out")
    assert {row.decision for row in rows} == {"unknown"}
    assert all(row.score is not None and row.threshold is None for row in rows)
    assert "without a threshold (--threshold)" in summary(rows, tmp_path / "out")


@pytest.mark.parametrize(("maps", "has_maps"), [(False, True), (True, False)])
def test_no_pictures_without_maps(photos: Path, tmp_path: Path, maps: bool, has_maps: bool) -> None:
    predict(BrightnessDetector(has_maps=has_maps), photos / "a", tmp_path / "out", maps=maps)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.csv"]


def test_pictures_of_an_earlier_prediction_are_no_inputs(photos: Path) -> None:
    first = predict(BrightnessDetector(), photos, photos / "out")
    again = predict(BrightnessDetector(), photos, photos / "out")
    assert again == first


def test_scores_do_not_depend_on_the_batch_and_broken_files_fill_no_place(
    photos: Path, tmp_path: Path
) -> None:
    detector = BrightnessDetector()
    single = predict(detector, photos, tmp_path / "one", batch_size=1)
    assert detector.batches == [1] * 8
    assert predict(BrightnessDetector(), photos, tmp_path / "all", batch_size=100) == single


def test_only_broken_files_still_give_a_table(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "empty.png").write_bytes(b"")
    detector = BrightnessDetector()
    rows = predict(detector, tmp_path / "photos", tmp_path / "out", threshold=0.5)
    assert [row.decision for row in rows] == ["unknown"]
    assert detector.batches == []
    assert (tmp_path / "out" / "predictions.csv").read_text().count("\n") == 2


def test_a_score_that_is_no_number_is_never_called_normal(tmp_path: Path) -> None:
    class Broken(BrightnessDetector):
        def score(self, images: Tensor) -> Prediction:
            prediction = super().score(images)
            return dataclasses.replace(prediction, image_scores=prediction.image_scores * float("nan"))

    (row,) = predict(Broken(), save(tmp_path / "a.png", 5), tmp_path / "out", threshold=0.5)
    assert (row.score, row.decision) == (None, "unknown")
    assert "score" in str(row.error)


def test_the_summary_counts_and_names_what_failed(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        rows = predict(BrightnessDetector(), photos, tmp_path / "out", threshold=35 / 255)
    said = summary(rows, tmp_path / "out")
    assert said.startswith("10 images: 5 anomalous, 3 normal\n2 could not be scored:")
    assert "broken.png" in said
    assert "predictions.csv" in said
    assert "broken.png" in caplog.text


def test_inputs_that_are_not_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"no image or folder at .*nowhere"):
        predict(BrightnessDetector(), tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(EmptySplit, match="no images in"):
        predict(BrightnessDetector(), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_named_file_is_tried_whatever_its_suffix(tmp_path: Path) -> None:
    save(tmp_path / "photo.png", 50).rename(tmp_path / "photo.dat")
    assert find_images(tmp_path / "photo.dat") == [tmp_path / "photo.dat"]
    (row,) = predict(BrightnessDetector(), tmp_path / "photo.dat", tmp_path / "out")
    assert row.score == pytest.approx(50 / 255, abs=1e-6)


def test_a_place_that_cannot_be_written_ends_the_prediction(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputFailed, match="choose another --out"):
        predict(BrightnessDetector(), photos, tmp_path / "out")
