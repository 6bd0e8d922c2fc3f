from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from adcommon import errors
from adcommon.data.kind import STATISTICS, Kind
from adcommon.data.preprocess import Preprocess
from adcommon.deploy import export as module
from adcommon.deploy.export import export
from adcommon.deploy.load import from_detector, load
from adcommon.deploy.model import Model
from adcommon.deploy.runtime import OnnxDetector
from adcommon.errors import BadValue, ExportFailed, MissingPackage, WrongCheckpoint
from adcommon.types.prediction import Prediction

CONFIG = {
    "method": "edges",
    "category": "bottle",
    "threshold": {"value": 0.75, "false_alarm_rate": 0.05, "images": 19, "supported": True},
}


class Edges:
    """How far a convolution of an image is from that of a reference image."""

    def __init__(self, *, maps: bool = True) -> None:
        torch.manual_seed(0)
        self.preprocess = Preprocess(image_size=16)
        self.model = nn.Conv2d(3, 4, 3, padding=1).eval()
        self.maps = maps
        with torch.inference_mode():
            self.reference = self.model(torch.zeros(1, 3, 16, 16))

    @torch.inference_mode()
    def score(self, images: torch.Tensor) -> Prediction:
        difference = (self.model(images) - self.reference).square().sum(dim=1)
        return Prediction(difference.flatten(1).amax(dim=1), difference if self.maps else None)


def edges(*, maps: bool = True) -> Model:
    return from_detector(Edges(maps=maps), CONFIG)


def test_the_file_scores_images_as_the_detector_does(tmp_path: Path) -> None:
    model = edges()
    model.kinds = [Kind(images=9, ranges=dict.fromkeys(STATISTICS, (0.1, 1 / 3)))]
    assert export(model, tmp_path / "a.onnx") < 1e-5
    exported = load(tmp_path / "a.onnx", method="edges")
    assert (exported.method, exported.category, exported.threshold) == ("edges", "bottle", 0.75)
    assert exported.preprocess == model.preprocess
    assert list(exported.kinds) == model.kinds
    for count in (1, 3):
        pixels = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        ours, theirs = exported.score_pixels(pixels), model.score_pixels(pixels)
        np.testing.assert_allclose(ours.image_scores, theirs.image_scores, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(ours.anomaly_maps, theirs.anomaly_maps, rtol=1e-5, atol=1e-5)


def test_a_detector_without_maps_has_none_in_its_file(tmp_path: Path) -> None:
    export(edges(maps=False), tmp_path / "a.onnx")
    exported = OnnxDetector(tmp_path / "a.onnx")
    assert exported.score_pixels(np.zeros((1, 16, 16, 3), np.uint8)).anomaly_maps is None
    assert exported.facts.category == "bottle"
    assert exported.facts.preprocess.image_size == 16


def test_nothing_is_written_if_the_file_would_compute_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(ExportFailed, match="differ from torch's"):
        export(edges(), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_that_decides_by_its_values_is_refused(tmp_path: Path) -> None:
    class Fickle(Edges):
        def score(self, images: torch.Tensor) -> Prediction:
            prediction = super().score(images)
            return prediction if float(prediction.image_scores[0]) > 1 else super().score(-images)

    with pytest.raises(ExportFailed, match="cannot be written as ONNX"):
        export(from_detector(Fickle(), CONFIG), tmp_path / "a.onnx")


def test_without_the_extra_packages_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(MissingPackage, match=r"onnxscript, not installed here: .*adcommon\[export\]"):
        export(edges(), tmp_path / "a.onnx")


def test_other_files_are_refused(tmp_path: Path) -> None:
    export(edges(), tmp_path / "a.onnx")
    with pytest.raises(WrongCheckpoint, match="a model of edges, not of uniad"):
        load(tmp_path / "a.onnx", method="uniad")
    with pytest.raises(BadValue, match="exported with its reference images"):
        load(tmp_path / "a.onnx", references=tmp_path)
    with pytest.raises(BadValue, match="an ONNX file already"):
        export(load(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    with pytest.raises(WrongCheckpoint, match="cannot read"):
        OnnxDetector(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(WrongCheckpoint, match="not an ONNX file"):
        OnnxDetector(tmp_path / "text.onnx")
    foreign = onnx.load(tmp_path / "a.onnx")
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(WrongCheckpoint, match="expected a file from `ad export`"):
        OnnxDetector(tmp_path / "foreign.onnx")
