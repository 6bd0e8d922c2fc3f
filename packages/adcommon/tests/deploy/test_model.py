"""What `Model` says of an image does not depend on how the image came to it."""

import csv
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from adcommon.data.kind import Kind
from adcommon.data.loading import AnomalyDataset
from adcommon.data.normalise import normalise
from adcommon.data.preprocess import Preprocess
from adcommon.deploy.exporting.export import export
from adcommon.deploy.load import from_detector, load
from adcommon.deploy.model import Model
from adcommon.deploy.result import Result
from adcommon.errors import BadValue, EmptySplit, UserError, WrongCheckpoint
from adcommon.types.prediction import Prediction
from adcommon.types.records import Record
from adcommon.types.threshold import calibrate


class Edges:
    """A convolution whose squares are the map, and their largest the score."""

    def __init__(self, preprocess: Preprocess | None = None) -> None:
        torch.manual_seed(0)
        self.preprocess = preprocess or Preprocess(image_size=16)
        self.model = nn.Conv2d(3, 4, 3, padding=1).eval()
        self.batches: list[int] = []

    def score(self, images: Tensor) -> Prediction:
        self.batches.append(images.shape[0])
        maps = self.model(images).square().sum(dim=1)
        return Prediction(maps.flatten(1).amax(dim=1), maps)


def model_of(detector: Any = None, threshold: float | None = None) -> Model:
    known = {"value": threshold, "false_alarm_rate": 0.05, "images": 19, "supported": True}
    config = {"method": "edges", "category": "parts", "threshold": None if threshold is None else known}
    return from_detector(detector or Edges(), config)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Five images of random pixels and sizes, and one that is none."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "parts"
    folder.mkdir()
    for name, (height, width) in {
        "a": (20, 30),
        "b": (64, 48),
        "d": (9, 9),
        "e": (16, 16),
        "f": (33, 7),
    }.items():
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    (folder / "c.png").write_text("no image")
    return folder


def facts_of(result: Result) -> tuple[float | None, bytes]:
    anomaly_map = result.anomaly_map
    return result.score, b"" if anomaly_map is None else anomaly_map.tobytes()


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("rgb", ["first", "last"])
def test_a_file_what_it_holds_an_image_and_an_array_give_the_same_bits(
    parts: Path, upright: bool, rgb: Any
) -> None:
    model = model_of(
        Edges(Preprocess(image_size=20, crop_size=16, fit="short_side", upright=upright, rgb=rgb))
    )
    path = parts / "b.png"
    with Image.open(path) as image:
        pixels = np.asarray(image)
        given = (path, str(path), path.read_bytes(), image, pixels, pixels[::-1][::-1])
        results = [model.predict(one) for one in given]
        assert image.size == (48, 64)
    assert len({facts_of(result) for result in results}) == 1
    assert [result.path for result in results] == [path, path, None, None, None, None]
    assert results[0].anomaly_map is not None
    assert results[0].anomaly_map.shape == (64, 48)
    assert results[0].anomaly_map.dtype == np.float32


def test_grey_arrays_are_grey_files_and_a_photo_is_upright_if_the_model_wants_it(
    tmp_path: Path,
) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (20, 40), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey).save(tmp_path / "turned.png", exif=exif)
    model = model_of()
    assert facts_of(model.predict(grey)) == facts_of(model.predict(tmp_path / "turned.png"))
    upright = model_of(Edges(Preprocess(image_size=16, upright=True)))
    with Image.open(tmp_path / "turned.png") as image:
        content = (tmp_path / "turned.png").read_bytes()
        results = [upright.predict(given) for given in (image, tmp_path / "turned.png", content)]
    assert len({facts_of(result) for result in results}) == 1
    assert [result.anomaly_map.shape for result in results] == [(40, 20)] * 3


def test_several_images_give_a_list_in_their_order_whatever_the_batch(parts: Path) -> None:
    model = model_of()
    of_folder = model.predict(parts)
    assert [result.path.name for result in of_folder] == [f"{name}.png" for name in "abcdef"]
    paths = [result.path for result in of_folder]
    for results in (
        model.predict(tuple(paths), batch_size=1),
        reversed(model.predict(list(reversed(paths)), batch_size=4)),
        model.stream(parts, batch_size=2, workers=4),
    ):
        for ours, theirs in zip(results, of_folder, strict=True):
            assert (ours.path, ours.error) == (theirs.path, theirs.error)
            assert ours.score == (theirs.score and pytest.approx(theirs.score, rel=1e-6))
    assert model.predict([]) == []


def test_an_unreadable_file_stops_nobody_but_is_an_error_alone(parts: Path) -> None:
    detector = Edges()
    results = model_of(detector, threshold=0.5).predict(parts, batch_size=6)
    assert detector.batches == [5]
    broken = results[2]
    assert (broken.score, broken.is_anomalous, broken.anomaly_map) == (None, None, None)
    assert str(parts / "c.png") in str(broken.error)
    assert [result.error for result in results if result is not broken] == [None] * 5
    with pytest.raises(UserError, match=r"cannot read the image .*c\.png"):
        model_of().predict(parts / "c.png")
    with pytest.raises(UserError, match="floating-point pixels"):
        model_of().predict(Image.new("F", (4, 4)))


def test_the_threshold_decides_and_none_decides_nothing(parts: Path) -> None:
    model = model_of()
    result = model.predict(parts / "a.png")
    assert result.threshold is None
    assert result.is_anomalous is None
    assert result.score is not None
    for threshold, anomalous in ((result.score, False), (np.nextafter(result.score, 0), True)):
        model.threshold = threshold
        assert model.predict(parts / "a.png").is_anomalous is anomalous
    assert model_of(threshold=0.25).predict(parts / "a.png").threshold == 0.25


def test_an_image_of_another_kind_is_never_called_normal(parts: Path) -> None:
    model = model_of(threshold=1e9)
    kind = Kind.of([model.preprocess.read(parts / "a.png")[2]] * 20)
    assert kind is not None
    model.kinds = [kind]
    white = Image.new("L", (40, 40), 255)
    own, other = model.predict([parts / "a.png", white])
    assert (own.unfamiliar, own.decision, own.is_anomalous) == (None, "normal", False)
    assert "than all 20 normal images" in str(other.unfamiliar)
    assert (other.decision, other.is_anomalous) == ("unfamiliar", None)
    model.threshold = -1.0
    result = model.predict(white)
    assert (result.decision, result.is_anomalous) == ("unfamiliar", True)
    assert result.score == pytest.approx(other.score)
    model.threshold = None
    assert model.predict(white).decision == "unfamiliar"


def test_a_score_that_is_no_number_is_an_error(parts: Path) -> None:
    class Broken(Edges):
        def score(self, images: Tensor) -> Prediction:
            prediction = super().score(images)
            return replace(prediction, image_scores=prediction.image_scores * float("nan"))

    model = model_of(Broken(), threshold=0.5)
    with pytest.raises(UserError, match=r"the score of .*a\.png is nan"):
        model.predict(parts / "a.png")
    (result,) = model.predict([np.zeros((4, 4), np.uint8)])
    assert (result.score, result.is_anomalous) == (None, None)
    assert "an image in memory" in str(result.error)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        3,
        torch.zeros(3, 4, 4),
    ],
    ids=lambda image: str(getattr(image, "shape", type(image))),
)
def test_what_is_no_image_is_refused(image: Any) -> None:
    with pytest.raises(
        BadValue, match="for an image; expected a path, bytes of a file, a Pillow image, or a uint8 array"
    ):
        list(model_of().stream(iter([image])))


def test_images_that_are_not_there_are_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="no image or folder at"):
        model_of().stream(tmp_path / "nowhere")
    with pytest.raises(EmptySplit, match="no images in"):
        model_of().predict(tmp_path)
    with pytest.raises(BadValue, match="batch_size is 0"):
        model_of().stream(tmp_path, batch_size=0)


@pytest.mark.parametrize(("workers", "streams"), [(0, 1), (1, 1), (3, 1), (2, 2)])
def test_a_stream_reads_two_batches_ahead_and_one_more_for_each_stream(workers: int, streams: int) -> None:
    drawn: list[int] = []

    def frames() -> Iterator[np.ndarray]:
        frame = np.zeros((8, 8, 3), np.uint8)
        for number in range(40):
            drawn.append(number)
            frame[:] = number  # a camera's buffer: each image is written over the last one
            yield frame

    model = model_of()
    model.streams = streams
    ahead = []
    scores = []
    for number, result in enumerate(model.stream(frames(), batch_size=4, workers=workers)):
        ahead.append(len(drawn) - number)
        scores.append(result.score)
    assert len(scores) == 40
    assert max(ahead) <= 4 * (2 + streams)
    alone = [model.predict(np.full((8, 8, 3), number, np.uint8)).score for number in range(40)]
    assert scores == pytest.approx(alone, rel=1e-6)


def test_streams_score_at_once_and_share_torchs_threads(parts: Path) -> None:
    model = model_of()
    model.streams = 2
    together = threading.Barrier(2)
    threads = []

    def score_pixels(pixels: np.ndarray) -> Prediction:
        together.wait(timeout=60)  # broken if nobody else scores meanwhile
        threads.append(torch.get_num_threads())
        return alone(pixels)

    alone, model.score_pixels = model.score_pixels, score_pixels
    torch.set_num_threads(2)
    try:
        results = list(model.stream([parts / "a.png", parts / "b.png"] * 4, batch_size=2))
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert threads == [1] * 4
    assert [result.path for result in results] == [parts / "a.png", parts / "b.png"] * 4


@pytest.mark.parametrize("streams", [1, 2])
def test_a_stream_that_is_left_early_leaves_no_thread_behind(parts: Path, streams: int) -> None:
    before = threading.active_count()
    model = model_of()
    model.streams = streams
    results = model.stream([parts / "a.png"] * 100, batch_size=1, workers=2)
    assert next(results).error is None
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_maps_do_not_keep_their_batch_in_memory(parts: Path) -> None:
    for result in model_of().predict(parts, batch_size=6):
        assert result.network_map is None or result.network_map.base is None


def test_references_say_what_a_decision_is_worth(parts: Path) -> None:
    class Comparing(Edges):
        scores: tuple[float, ...] = ()

        def left_out(self) -> Prediction:
            return Prediction(torch.tensor(self.scores), None)

    detector = Comparing()
    assert model_of(detector, threshold=0.5).calibration is None  # what was stored is of other products
    detector.scores = (0.1, 0.3, 0.2)
    model = model_of(detector)
    assert (model.threshold, model.promise) == (None, None)
    assert model.calibration is not None
    assert "3 reference images" in model.calibration.remedy
    model.decide_at(0.25)
    assert model.threshold == pytest.approx(0.3)
    assert model.promise == model.calibration
    result = model.predict(parts / "a.png")
    assert result.p_value == model.calibration.p_value(result.score)


def test_an_exported_model_knows_its_calibration(tmp_path: Path) -> None:
    model = model_of()
    model.calibration = calibrate(np.linspace(0, 1, 40), 0.05)
    model.threshold = model.calibration.decision
    export(model, tmp_path / "edges.onnx")
    again = load(tmp_path / "edges.onnx")
    assert again.calibration == model.calibration
    again.decide_at(0.1)
    assert again.threshold < model.threshold


def test_an_exported_file_sees_the_pixels_of_training(parts: Path, tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (40, 24), dtype=np.uint16)
    Image.fromarray(deep).save(parts / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(parts / "b.png").save(parts / "turned.jpg", exif=exif)
    model = model_of(Edges(Preprocess(image_size=20, crop_size=16, fit="short_side", upright=True)))
    export(model, tmp_path / "edges.onnx")
    exported = load(tmp_path / "edges.onnx")
    seen: list[np.ndarray] = []
    compute = exported.score_pixels
    exported.score_pixels = lambda pixels: (seen.append(pixels), compute(pixels))[1]
    paths = [parts / name for name in ("deep.png", "turned.jpg", "a.png")]
    exported.predict(paths)
    dataset = AnomalyDataset([Record(path, "parts", 0) for path in paths], model.preprocess)
    assert torch.equal(normalise(np.concatenate(seen), model.preprocess), dataset.batch([0, 1, 2]).images)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_exported_file_is_light_and_tells_nobody(parts: Path, tmp_path: Path, runtime: str) -> None:
    model = model_of(threshold=0.5)
    export(model, tmp_path / "edges.onnx")
    code = """
import json, sys
from adcommon.cli.main import main
try:
    main()
except SystemExit as ended:
    code = ended.code
heavy = ["torch", "scipy", "skimage", "timm", "sklearn", "pandas", "matplotlib", "onnx", "hypothesis"]
heavy.append("onnxruntime" if "openvino" in sys.argv else "openvino")
print(json.dumps([code, [name for name in heavy if name in sys.modules]]), file=sys.stderr)
"""
    command = f"predict {parts} --model {tmp_path}/edges.onnx --out {tmp_path}/out --save-maps npy"
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split(), "--runtime", runtime, "--threads", "1"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HOME": str(tmp_path / "home")},
    )
    assert json.loads(done.stderr.splitlines()[-1]) == [1, []]  # one image cannot be read
    assert not (tmp_path / "home").exists()
    assert json.loads((tmp_path / "out/run.json").read_text())["runtime"] == runtime
    with (tmp_path / "out/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, theirs in zip(rows, model.predict(parts), strict=True):
        assert row["decision"] == theirs.decision
        assert (
            row["score"] == ""
            if theirs.score is None
            else float(row["score"]) == pytest.approx(theirs.score, rel=1e-5)
        )


def test_a_folder_needs_torch_and_says_so(tmp_path: Path) -> None:
    code = """
import importlib.abc, sys
class NoTorch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, NoTorch())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else found(name, package)
import adcommon as ad
for act in (lambda: ad.load("model"), lambda: ad.evaluate, lambda: ad.export):
    try:
        act()
    except ad.UserError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("needs torch, not installed here: uv pip install 'adcommon[train]'") == 3


def test_references_may_be_a_folder_or_files(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def load_folder(path: Path, *, references: list[Path], **flags: Any) -> tuple[Edges, dict[str, Any]]:
        asked.append([reference.name for reference in references])
        return Edges(), {"method": "edges", "category": "a+b", "threshold": None}

    monkeypatch.setattr("adcommon.methods.load_folder", load_folder)
    (parts / "c.png").unlink()
    for references in (None, parts, parts / "a.png", [parts / "b.png", str(parts / "a.png")]):
        model = load("model", references=references, category="a", device="cpu")
        assert (model.method, model.category) == ("edges", "a")
    everything = [f"{name}.png" for name in "abdef"]
    assert asked == [[], everything, ["a.png"], ["b.png", "a.png"]]
    with pytest.raises(BadValue, match="no image or folder"):
        load("model", references="nowhere", device="cpu")
    assert model.kinds == ()  # of so few
    (kind,) = load("model", references=[parts, parts / "a.png"] * 2, device="cpu").kinds
    assert kind.images == 12


def test_a_checkpoint_of_the_authors_is_read_by_the_method_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def load_detector(path: Path, **flags: Any) -> Edges:
        asked.append(path)
        return Edges()

    monkeypatch.setattr("adcommon.methods.find", lambda method: load_detector)
    (tmp_path / "ckpt.pth").touch()
    model = load(tmp_path / "ckpt.pth", method="edges", device="cpu")
    assert asked == [tmp_path / "ckpt.pth"]
    assert (model.method, model.category, model.threshold) == ("edges", None, None)
    with pytest.raises(WrongCheckpoint, match="is a file; expected a folder"):
        load(tmp_path / "ckpt.pth", device="cpu")


def test_a_reference_is_not_scored_whatever_its_file(parts: Path) -> None:
    Image.open(parts / "a.png").save(parts.parent / "reference.bmp")
    model = model_of()
    model.references = [parts.parent / "reference.bmp"]
    results = {result.path: result for result in model.predict(parts)}
    assert results[parts / "b.png"].score is not None
    assert "a.png is the reference" in str(results[parts / "a.png"].error)
    with pytest.raises(UserError, match=r"is the reference .*reference\.bmp: compared with itself"):
        model.predict(np.asarray(Image.open(parts / "a.png")))


def test_what_is_never_looked_at_is_said_once(parts: Path, caplog: pytest.LogCaptureFixture) -> None:
    model_of(Edges(Preprocess(image_size=16, fit="short_side"))).predict(parts)
    assert sum("is not looked at" in message for message in caplog.messages) == 1


def test_a_tile_as_large_as_the_image_changes_nothing(parts: Path) -> None:
    whole = model_of(Edges(Preprocess(image_size=16))).predict(parts, batch_size=1)
    tiled = model_of(Edges(Preprocess(image_size=16, tile=64))).predict(parts, batch_size=1)
    for one, other in zip(whole, tiled, strict=True):
        assert (one.score, one.error is None) == (other.score, other.error is None)
        if one.network_map is not None:
            np.testing.assert_array_equal(one.network_map, other.network_map)
            np.testing.assert_array_equal(one.anomaly_map, other.anomaly_map)


def test_an_image_scores_as_its_highest_tile_and_tiles_share_the_batch(parts: Path) -> None:
    detector = Edges(Preprocess(image_size=16, tile=16, overlap=4))
    result = model_of(detector).predict(parts / "b.png", batch_size=5)
    assert detector.batches == [5, 5, 5, 5]
    tiles, (width, height), _ = detector.preprocess.read(parts / "b.png")
    alone = model_of(Edges(Preprocess(image_size=16)))
    by_tile = alone.predict(list(tiles))
    assert result.score == pytest.approx(max(tile.score for tile in by_tile), rel=1e-6)
    assert result.anomaly_map.shape == (height, width) == (64, 48)
    assert result.network_map.shape == (64, 48)
    # Where a tile is alone, its map is the photograph's.
    np.testing.assert_allclose(result.network_map[:11, :11], by_tile[0].network_map[:11, :11], rtol=1e-5)


def test_an_exported_model_cuts_images_as_the_detector_did(parts: Path, tmp_path: Path) -> None:
    model = model_of(Edges(Preprocess(image_size=16, tile=16)))
    export(model, tmp_path / "edges.onnx")
    with pytest.raises(BadValue, match="looks at images as it was written"):
        load(tmp_path / "edges.onnx", tile=32)
    exported = load(tmp_path / "edges.onnx")
    for ours, theirs in zip(model.predict(parts), exported.predict(parts), strict=True):
        assert ours.path == theirs.path
        if ours.score is not None:
            assert theirs.score == pytest.approx(ours.score, rel=1e-4)
            np.testing.assert_allclose(theirs.anomaly_map, ours.anomaly_map, rtol=1e-3, atol=1e-5)
