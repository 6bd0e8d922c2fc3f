"""Any image gets a row and a picture of its own size; a broken one is reported and stops nobody."""

import csv
import dataclasses
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from adcommon.data.kind import Kind
from adcommon.data.preprocess import Preprocess
from adcommon.deploy.inputs import find_images
from adcommon.deploy.load import from_detector
from adcommon.deploy.model import Model
from adcommon.deploy.predict import predict as predict_with
from adcommon.deploy.rows import Row
from adcommon.deploy.summary import Predicted, summary
from adcommon.errors import BadValue, EmptySplit, Leak, OutputExists, OutputFailed
from adcommon.io.decoding import opened
from adcommon.io.text import csv_value
from adcommon.results.drawing import draw
from adcommon.results.pictures import FOUND, write_jpeg
from adcommon.testing.surroundings import contents, untouched
from adcommon.types.prediction import Prediction
from adcommon.types.threshold import calibrate


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


def model_of(
    detector: BrightnessDetector, threshold: float | None = None, *, supported: bool = True
) -> Model:
    known = {"value": threshold, "images": 4, "false_alarm_rate": 0.05, "supported": supported}
    config = {"method": "brightness", "category": "photos", "threshold": None if threshold is None else known}
    return from_detector(detector, config)


def predict(
    detector: BrightnessDetector, inputs: Path, out: Path, *, threshold: float | None = None, **flags: Any
) -> list[Row]:
    return list(predict_with(model_of(detector, threshold), inputs, out, **flags).rows)


def save(path: Path, grey: int, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).convert(mode).save(path)
    return path


def files_of(out: Path) -> dict[str, object]:
    return {path.relative_to(out).as_posix(): held for path, held in contents(out).items()}


def pictures_in(folder: Path) -> list[Path]:
    """The maps over their images, without the layers of the page."""
    found = (path.relative_to(folder) for path in folder.rglob("*.jpg"))
    return sorted(path for path in found if path.parts[0] != "layers")


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
    assert list(table[0]) == [
        "path",
        "score",
        "p_value",
        "threshold",
        "false_alarm_rate",
        "decision",
        "unfamiliar",
        "error",
    ]
    for line, row in zip(table, rows, strict=True):
        assert Path(line["path"]) == row.path
        assert line["decision"] == row.decision
        assert (float(line["score"]) if line["score"] else None) == row.score
        assert bool(line["error"]) == (row.score is None)

    pictures = [path.as_posix() for path in pictures_in(out / "maps")]
    assert pictures == [f"{name}.jpg" for name, grey in EXPECTED.items() if grey is not None]
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
    with Image.open(tmp_path / "out" / "maps" / "part.png.jpg") as picture:
        shown = np.asarray(picture).sum(axis=2)
    assert shown.shape == (64, 96)
    assert shown[45:55, 65:85].min() > 500
    assert shown[:35].max() < 50


def test_with_upright_the_picture_is_upright_too(photos: Path, tmp_path: Path) -> None:
    for upright, size in ((False, (40, 20)), (True, (20, 40))):
        predict(BrightnessDetector(upright=upright), photos / "turned.png", tmp_path / str(upright))
        with Image.open(tmp_path / str(upright) / "maps" / "turned.png.jpg") as picture:
            assert picture.size == size


def test_without_a_threshold_nothing_is_decided(photos: Path, tmp_path: Path) -> None:
    rows = predict(BrightnessDetector(), photos / "a", tmp_path / "out")
    assert {row.decision for row in rows} == {"unknown"}
    assert all(row.score is not None and row.threshold is None for row in rows)
    said = summary(Predicted(rows, {}, len(rows)), model_of(BrightnessDetector()), tmp_path / "out")
    assert "without a threshold (--threshold)" in said
    assert said.index("part.bmp") < said.index("part.png")
    assert "score normal images" in said


@pytest.mark.parametrize(("maps", "has_maps"), [(False, True), (True, False)])
def test_no_pictures_without_maps(photos: Path, tmp_path: Path, maps: bool, has_maps: bool) -> None:
    predict(BrightnessDetector(has_maps=has_maps), photos / "a", tmp_path / "out", maps=maps)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {".adcommon", "predictions.csv", "run.json"}


def test_pictures_of_an_earlier_prediction_are_no_inputs(photos: Path) -> None:
    first = predict(BrightnessDetector(), photos, photos / "out")
    again = predict(BrightnessDetector(), photos, photos / "out", force=True)
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
    model = model_of(BrightnessDetector(), 35 / 255)
    (photos / "a" / "link.png").symlink_to("nowhere")
    with caplog.at_level(logging.WARNING):
        predicted = predict_with(model, photos, tmp_path / "out")
    said = summary(predicted, model, tmp_path / "out").splitlines()
    assert said[0] == "10 images: 5 anomalous, 3 normal"
    assert [Path(line.split()[1]).name for line in said[1:6]] == [
        "turned.png",
        "sixteen.png",
        "part.png",
        "part.bmp",
        "part.png",
    ]
    assert said[6] == "2 could not be scored:"
    assert "broken.png" in said[7]
    assert said[9] == "not used:"
    assert "link.png" in said[10]
    assert said[-2] == f"look at {tmp_path / 'out' / 'maps' / 'index.html'}"
    assert said[-1].endswith("predictions.csv")
    assert "broken.png" in caplog.text


def test_a_threshold_of_too_few_images_decides_nothing_and_says_what_is_needed(
    photos: Path, tmp_path: Path
) -> None:
    model = model_of(BrightnessDetector(), 35 / 255, supported=False)
    predicted = predict_with(model, photos, tmp_path / "out")
    assert {row.decision for row in predicted.rows} == {"unknown"}
    said = summary(predicted, model, tmp_path / "out")
    assert "none is called anomalous" in said.splitlines()[0]
    assert "a false-alarm rate of 0.05 needs 19" in said
    assert "there are 4 normal images kept out of training" in said
    assert f"--threshold ({35 / 255:.6g} is the highest of their scores)" in said
    model.threshold = 0.1
    assert "a score above 0.1, which nothing is known of" in summary(predicted, model, tmp_path / "out")


def test_where_none_can_be_scored_that_is_all_that_is_said(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / f"{number}.png").write_bytes(b"")
    model = model_of(BrightnessDetector(), 0.5)
    said = summary(predict_with(model, tmp_path / "photos", tmp_path / "out"), model, tmp_path / "out")
    first, second = said.splitlines()
    assert first.startswith("none of 12 images could be scored: cannot read")
    assert "0.png" in first
    assert second == f"all reasons are in {tmp_path / 'out' / 'predictions.csv'}"


def test_every_row_says_what_the_decision_is_worth(photos: Path, tmp_path: Path) -> None:
    model = model_of(BrightnessDetector())
    model.calibration = calibrate([grey / 255 for grey in range(5, 43, 2)], 0.05)
    model.threshold = model.calibration.decision
    predicted = predict_with(model, photos, tmp_path / "out")
    scored = [row for row in predicted.rows if row.score is not None]
    assert {row.false_alarm_rate for row in scored} == {0.05}
    assert all(row.decision == ("anomalous" if row.p_value <= 0.05 else "normal") for row in scored)
    said = summary(predicted, model, tmp_path / "out")
    assert "false-alarm rate 0.05 (95% sure: 0.0013 to 0.18), from 19 normal images kept out of" in said
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["p_value"] for line in table if line["score"]] == [str(row.p_value) for row in scored]

    model.decide_at(0.5)
    loose = predict_with(model, photos, tmp_path / "loose")
    assert loose.anomalous > predicted.anomalous
    model.threshold = 0.1
    own = predict_with(model, photos, tmp_path / "own")
    assert {row.false_alarm_rate for row in own.rows} == {None}
    assert "above 0.1, like 8 of 19 normal images" in summary(own, model, tmp_path / "own")
    whose = [(tmp_path / name / "maps" / "index.html").read_text() for name in ("out", "loose", "own")]
    assert ['"whose":"yours"' in page for page in whose] == [False, False, True]
    with pytest.raises(BadValue, match="calibrated on no normal images"):
        model_of(BrightnessDetector()).decide_at(0.05)


def test_pictures_share_their_colours_and_outline_what_few_normal_images_reach(tmp_path: Path) -> None:
    file = save(tmp_path / "photos" / "spot.png", 20, (64, 64))
    spotted = Image.open(file)
    spotted.paste((250, 250, 250), (16, 16, 48, 48))
    spotted.save(file)
    model = model_of(BrightnessDetector())
    greys = [grey / 255 for grey in range(30, 68, 2)]
    model.calibration = calibrate(greys, 0.05, peaks=greys)
    assert model.calibration.colours == pytest.approx((48 / 255, 66 / 255, 120 / 255))
    predict_with(model, tmp_path / "photos", tmp_path / "out")
    drawn = np.asarray(Image.open(tmp_path / "out" / "maps" / "spot.png.jpg"))
    assert (drawn[0, 0] <= 12).all()  # half of the image and half of the first colour
    assert drawn[32, 32].tolist() == pytest.approx([251, 252, 207], abs=2)  # half of 250 and half of the last
    outline = (abs(drawn.astype(int) - FOUND) < 40).all(axis=2)
    rows, columns = outline.nonzero()
    assert 12 <= rows.min() <= columns.min() <= 16
    assert 47 <= rows.max() <= 51


@pytest.mark.parametrize("kind", ["npy", "tiff"])
def test_maps_are_written_at_the_size_of_the_images(tmp_path: Path, kind: Any) -> None:
    file = save(tmp_path / "photos" / "deep" / "spot.png", 20, (90, 60))
    spotted = Image.open(file)
    spotted.paste((250, 250, 250), (30, 20, 60, 40))
    spotted.save(file)
    model = model_of(BrightnessDetector())
    model.calibration = calibrate([0.1] * 19, 0.05, peaks=[0.5] * 19)
    predict_with(model, tmp_path / "photos", tmp_path / "out", save_maps=kind)
    raw = tmp_path / "out" / "raw" / "deep"
    assert sorted(path.name for path in raw.iterdir()) == sorted(["spot.png.json", f"spot.png.{kind}"])
    read = np.load(raw / "spot.png.npy") if kind == "npy" else np.asarray(Image.open(raw / "spot.png.tiff"))
    np.testing.assert_array_equal(read, model.predict(file).anomaly_map)
    (region,) = json.loads((raw / "spot.png.json").read_text())["regions"]
    assert region["x"] == pytest.approx(30, abs=3)
    assert region["width"] == pytest.approx(30, abs=5)


def test_images_of_another_kind_are_neither_normal_nor_anomalous(tmp_path: Path) -> None:
    model = model_of(BrightnessDetector(), 35 / 255)
    known = [save(tmp_path / f"{number}.png", 30 + number) for number in range(10)]
    kind = Kind.of([model.preprocess.appearance(path) for path in known])
    assert kind is not None
    model.kinds = [kind]
    save(tmp_path / "photos" / "own.png", 33)
    save(tmp_path / "photos" / "tall.png", 30, (30, 60))
    bright = save(tmp_path / "photos" / "bright.png", 250)
    predicted = predict_with(model, tmp_path / "photos", tmp_path / "out")
    assert [row.decision for row in predicted.rows] == ["unfamiliar", "normal", "unfamiliar"]
    said = summary(predicted, model, tmp_path / "out").splitlines()
    assert said[0] == "3 images: 0 anomalous, 1 normal, 2 not of this kind"
    assert "2 not of the kind that the model knows, to be looked at (1 of them score above" in said[1]
    reason = "much brighter than all 10 normal images of the model (brightness 250; theirs: 30 to 39)"
    assert said[2] == f"  {bright}: {reason}"
    page = (tmp_path / "out" / "maps" / "index.html").read_text()
    assert f'"unfamiliar":"{reason}"' in page
    table = tmp_path / "out" / "predictions.csv"
    before = table.read_bytes()
    assert reason in before.decode()
    table.write_bytes(before[:-20])
    predict_with(model, tmp_path / "photos", tmp_path / "out", resume=True)
    assert table.read_bytes() == before


def test_many_are_shown_in_part(tmp_path: Path) -> None:
    rows = [Row(Path(f"{number}.png"), float(number), None, 5.0, None, None, None) for number in range(40)]
    rows += [Row(Path("x"), None, None, 5.0, None, None, f"error {number}") for number in range(30)]
    said = summary(Predicted(rows, {}, 80), model_of(BrightnessDetector(), 5.0), tmp_path).splitlines()
    assert said[:3] == [
        "70 images: 34 anomalous, 6 normal",
        "stopped after 70 of 80; the same command with --resume goes on",
        "  39  39.png",
    ]
    assert said[12] == "  ... and 24 more"
    assert said[-4] == "  ... and 20 more"
    assert "34 of 40 images are called anomalous" in said[-2]


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


def test_nothing_is_written_over_what_is_there(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(BrightnessDetector(), photos, out)
    with untouched(out), pytest.raises(OutputExists, match=r"--resume(.|\n)*--force"):
        predict(BrightnessDetector(), photos / "a", out)
    rows = predict(BrightnessDetector(), photos / "a", out, force=True)
    assert len(rows) == 2
    assert {path.name for path in (out / "maps").iterdir()} == {
        *("part.bmp.jpg", "part.png.jpg", "index.html", "layers")
    }

    (out / "results.json").write_text("of an evaluation")
    for flags in ({"force": True}, {"resume": True}):
        with untouched(out), pytest.raises(OutputExists, match=r"results\.json"):
            predict(BrightnessDetector(), photos / "a", out, **flags)
    for name in ("mine.txt", "predictions.csv", "maps/mine.png"):
        foreign = tmp_path / "foreign" / name
        foreign.parent.mkdir(parents=True)
        foreign.write_text("mine")
        for flags in ({}, {"force": True}, {"resume": True}):
            with untouched(tmp_path / "foreign"), pytest.raises(OutputExists, match="no run of this product"):
                predict(BrightnessDetector(), photos / "a", tmp_path / "foreign", **flags)
        (tmp_path / "foreign").rename(tmp_path / name.replace("/", "-"))


def test_a_refused_prediction_leaves_nothing(tmp_path: Path) -> None:
    with untouched(tmp_path), pytest.raises(BadValue, match="no image or folder"):
        predict(BrightnessDetector(), tmp_path / "nowhere", tmp_path / "a" / "b")


class Interrupted(Exception):
    pass


class Breaking(BrightnessDetector):
    """Fails after some batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.left = batches

    def score(self, images: Tensor) -> Prediction:
        self.left -= 1
        if self.left < 0:
            raise Interrupted
        return super().score(images)


@pytest.mark.parametrize("batches", range(5))
@pytest.mark.parametrize("torn", [0, 1, 9])
def test_what_was_scored_is_kept_and_the_rest_is_the_same(
    photos: Path, tmp_path: Path, batches: int, torn: int
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    predict(BrightnessDetector(), photos, whole, threshold=0.1, batch_size=2)
    with pytest.raises(Interrupted):
        predict(Breaking(batches), photos, out, threshold=0.1, batch_size=2)
    table = out / "predictions.csv"
    assert len(table.read_text().splitlines()) >= 1 + 2 * batches
    os.truncate(table, max(0, table.stat().st_size - torn))
    second = BrightnessDetector()
    predict(second, photos, out, threshold=0.1, batch_size=2, resume=True)
    assert files_of(out) == files_of(whole)
    assert len(second.batches) <= 4 - batches + (2 if torn else 1)
    predict(Breaking(0), photos, out, threshold=0.1, batch_size=2, resume=True)
    assert files_of(out) == files_of(whole)


def test_a_row_without_its_picture_is_scored_again(photos: Path, tmp_path: Path) -> None:
    predict(BrightnessDetector(), photos, tmp_path / "out", batch_size=2)
    before = files_of(tmp_path / "out")
    (tmp_path / "out" / "maps" / "b" / "palette.png.jpg").unlink()
    detector = BrightnessDetector()
    predict(detector, photos, tmp_path / "out", batch_size=2, resume=True)
    assert detector.batches == [1, 1, 2]
    assert files_of(tmp_path / "out") == before


def test_a_stop_ends_in_good_order(photos: Path, tmp_path: Path) -> None:
    asked = iter([False, False, True, True])
    model, out = model_of(BrightnessDetector()), tmp_path / "out"
    predicted = predict_with(model, photos, out, batch_size=2, stop=lambda: next(asked))
    assert (len(predicted.rows), predicted.asked) == (4, 10)
    page = (out / "maps" / "index.html").read_text()
    assert page.count('"picture"') == len(pictures_in(out / "maps")) == 4
    assert "stopped after 4 of 10" in summary(predicted, model, out)
    predict(BrightnessDetector(), photos, out, batch_size=2, resume=True)
    predict(BrightnessDetector(), photos, tmp_path / "whole", batch_size=2)
    assert files_of(out) == files_of(tmp_path / "whole")


CHANGES = {
    "threshold": {"threshold": 0.2},
    "batch_size": {"batch_size": 3},
    "maps": {"maps": False},
    "model": {"made_with": {"model": "another"}},
}


@pytest.mark.parametrize("name", [*CHANGES, "images", "images_digest", "removed", "table", "run", "header"])
def test_another_prediction_is_not_gone_on_with(photos: Path, tmp_path: Path, name: str) -> None:
    flags: dict[str, Any] = {"threshold": 0.1, "batch_size": 2, "made_with": {"model": "one"}}
    out, inputs = tmp_path / "out", photos
    predict(BrightnessDetector(), photos, out, **flags)
    expected = name
    if name == "images":
        inputs = photos / "a"
    elif name == "images_digest":
        save(photos / "new.png", 3)
    elif name == "removed":
        (photos / "part.png").unlink()
        expected = "images_digest"
    elif name in ("table", "header"):
        table = out / "predictions.csv"
        table.write_text(table.read_text().replace("score" if name == "header" else "normal", "nonsense", 1))
        expected = "row 4" if name == "table" else "its header"
    elif name == "run":
        (out / "run.json").write_text("[1]")
        expected = "model"
    flags |= CHANGES.get(name, {}) | {"resume": True}
    with untouched(out), pytest.raises(OutputExists, match=rf"{expected}(.|\n)*--force"):
        predict(BrightnessDetector(), inputs, out, **flags)


HOSTILE = [
    b"caf\xe9.png",
    b"\xff\xfe.png",
    b"=cmd.png",
    b"-dash.png",
    b"@a;=b.png",
    b"a\nb.png",
    b"a\rb.png",
    b"tab\t.png",
    b"A.png",
    b"a.png",
    b"con.png",
    b"x ..png",
    b'q"u<o>t|e*?.png',
    b"#1%20.png",
    b"\x1b[2J.png",
    b"\\x41.png",
    b"deep/A/x.png",
    b"deep/a/x.png",
    b"index.html/x.png",
    b"dot./x.png",
    "漢".encode() * 80 + b".png",
    b"l" * 251 + b".png",
]


def test_any_name_works_in_every_output(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    template = save(tmp_path / "template.png", 50, (8, 8)).read_bytes()
    for name in HOSTILE:
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(template)
    rows = predict(BrightnessDetector(), folder, out, threshold=0.1, batch_size=5)
    assert [row.error for row in rows] == [None] * len(HOSTILE)
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert {os.fsencode(csv_value(line["path"])) for line in table} == {
        os.fsencode(folder) + b"/" + name for name in HOSTILE
    }
    pictures = pictures_in(out / "maps")
    assert len({path.as_posix().casefold() for path in pictures}) == len(HOSTILE)
    page = (out / "maps" / "index.html").read_text(encoding="utf-8")
    assert page.count('"picture"') == len(HOSTILE)
    summary(Predicted(rows, {}, len(rows)), model_of(BrightnessDetector(), 0.1), out).encode()
    again = BrightnessDetector()
    before = files_of(out)
    predict(again, folder, out, threshold=0.1, batch_size=5, resume=True)
    assert again.batches == []
    assert files_of(out) == before


def smooth(width: int, height: int) -> Image.Image:
    grey = np.random.default_rng(width).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(grey).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("tile", [None, 48])
@pytest.mark.parametrize("rgb", ["first", "last"])
def test_an_image_is_decoded_once_and_drawn_as_it_is_in_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile: int | None, rgb: Any
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth(30, 90).save(folder / "tall.png")
    smooth(2300, 60).save(folder / "wide.jpg")
    smooth(80, 50).save(folder / "turned.jpg", exif=exif)
    smooth(70, 60).quantize(16).save(folder / "palette.png")
    Image.fromarray(np.asarray(smooth(60, 70).convert("L")).astype(np.uint16) * 9).save(folder / "deep.png")
    detector = BrightnessDetector()
    detector.preprocess = dataclasses.replace(
        detector.preprocess, upright=True, white=2400, tile=tile, rgb=rgb
    )
    model = model_of(detector)
    greys = [grey / 255 for grey in range(60, 160, 5)]
    model.calibration = calibrate(greys, 0.05, peaks=greys)
    decoded: list[Path] = []

    def count(source: Path) -> Any:
        decoded.append(source)
        return opened(source)

    monkeypatch.setattr("adcommon.io.images.opened", count)
    predict_with(model, folder, tmp_path / "out", batch_size=2)
    assert sorted(decoded) == sorted(folder.iterdir())
    for file in folder.iterdir():
        network_map = model.predict(file).network_map
        assert network_map is not None
        shown = draw(file, network_map, model.preprocess, model.calibration.colours, longest_side=2048)
        for folder, picture in zip(("layers/plain", "."), shown, strict=True):
            write_jpeg(expected := tmp_path / "expected.jpg", picture)
            written = tmp_path / "out" / "maps" / folder / f"{file.name}.jpg"
            assert written.read_bytes() == expected.read_bytes()


def test_a_picture_has_a_bounded_size(tmp_path: Path) -> None:
    save(tmp_path / "wide.png", 50, (5000, 3))
    save(tmp_path / "high.png", 50, (2, 4096))
    predict(BrightnessDetector(), tmp_path, tmp_path / "out")
    sizes = {}
    for path in (tmp_path / "out" / "maps").glob("*.jpg"):
        with Image.open(path) as picture:
            sizes[path.name] = picture.size
    assert sizes == {"wide.png.jpg": (2048, 1), "high.png.jpg": (1, 2048)}


def test_images_that_are_references_are_refused_before_work(photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "part.png", tmp_path / "reference.png")
    model = model_of(BrightnessDetector())
    model.references = [tmp_path / "reference.png"]
    with pytest.raises(Leak, match=r"1 images are references too(.|\n)*part\.png = .*reference\.png"):
        predict_with(model, photos, tmp_path / "out")
    assert not (tmp_path / "out" / "predictions.csv").exists()
