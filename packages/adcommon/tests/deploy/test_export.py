import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime import InferenceSession
from PIL import Image
from torch import nn

from adcommon import errors
from adcommon.data.kind import STATISTICS, Kind
from adcommon.data.preprocess import Preprocess
from adcommon.deploy.exporting.checked import rank_correlation
from adcommon.deploy.exporting.decisions import add_decisions, below
from adcommon.deploy.exporting.export import export
from adcommon.deploy.load import from_detector, load
from adcommon.deploy.model import Model
from adcommon.deploy.runtime import OnnxDetector
from adcommon.errors import BadValue, ExportFailed, MissingPackage, WrongCheckpoint
from adcommon.models.compute import Compute
from adcommon.types.prediction import Prediction
from adcommon.types.threshold import calibrate

DEPLOY = Path(__file__).parents[4] / "deploy"
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
        # In float64, as ReContrast's: OpenVINO has none, and an output of its graph bears two names.
        difference = (self.model(images) - self.reference).double().square().sum(dim=1)
        highest = difference.flatten(1).amax(dim=1)
        return Prediction(highest.float(), difference.float() if self.maps else None)


def edges(*, maps: bool = True) -> Model:
    return from_detector(Edges(maps=maps), CONFIG)


def test_the_file_scores_images_as_the_detector_does(tmp_path: Path) -> None:
    model = edges()
    model.kinds = [Kind(images=9, ranges=dict.fromkeys(STATISTICS, (0.1, 1 / 3)))]
    checked = export(model, tmp_path / "a.onnx")
    assert checked.difference < 1e-5
    exported = load(tmp_path / "a.onnx", method="edges")
    assert (exported.method, exported.category, exported.threshold) == ("edges", "bottle", 0.75)
    assert exported.preprocess == model.preprocess
    assert OnnxDetector(tmp_path / "a.onnx").facts.checked == checked
    card = (tmp_path / "a.onnx.md").read_text()
    assert "`ad export` of edges bottle: anomalous: a score above 0.75" in card
    assert f"fp32, {checked.words}." in card
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


def photos(folder: Path, count: int) -> Path:
    """Images whose score rises with their number; the last three lie in a folder of scratched ones."""
    noise = np.random.default_rng(0).normal(0, 1, (16, 16, 3))
    for number in range(count):
        file = folder / ("scratched" if number >= count - 3 else "good") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = 60 + 5 * number + (1 + number) * noise
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
    return folder


def test_nothing_is_written_if_the_file_would_compute_something_else(tmp_path: Path) -> None:
    images = photos(tmp_path / "photos", 4)
    with pytest.raises(
        ExportFailed, match=r"differ by .*\(4 images\).* --max-change is 0; nothing was written"
    ):
        export(edges(), tmp_path / "a.onnx", check_images=images, max_change=0.0)
    assert list(tmp_path.iterdir()) == [images]


def test_the_graph_says_what_the_calibration_does(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    model = edges()
    scores = np.sort(model.score_pixels(pixels).image_scores).astype(float).tolist()
    model.calibration = calibrate([*scores, scores[4], 1e3], 0.2)
    model.threshold = scores[7]
    export(model, tmp_path / "a.onnx")
    session = InferenceSession(tmp_path / "a.onnx")
    names = [output.name for output in session.get_outputs()]
    for part in (pixels[:1], pixels[1:]):
        said = dict(zip(names, session.run(None, {"pixels": part}), strict=True))
        for place, score in enumerate(said["score"].tolist()):
            assert said["p_value"][place] == pytest.approx(model.calibration.p_value(score))
            assert said["decision"][place] == (score > scores[7])
            wanted = (score - scores[4]) / (scores[7] - scores[4])  # 0 at the median, there twice
            assert said["normalised_score"][place] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("threshold", "calibration", "outputs"),
    [
        (None, None, []),
        (0.1, None, ["decision"]),
        (None, calibrate([1.0, 2.0]), ["p_value"]),
        (1.0, calibrate([1.0, 2.0]), ["decision", "p_value"]),  # no room between median and threshold
    ],
)
def test_what_is_not_known_is_no_output(threshold, calibration, outputs: list[str]) -> None:
    graph = onnx.helper.make_graph([], "graph", [], [])
    model = onnx.helper.make_model(graph)
    add_decisions(model, threshold, calibration)
    assert [output.name for output in model.graph.output] == outputs


@given(st.floats(-1e30, 1e30))
def test_a_limit_in_float32_decides_as_the_limit_does(limit: float) -> None:
    near = below(limit)
    for score in (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))):
        assert (score > near) == (float(score) > limit)


def test_eight_bits_are_another_model_with_a_threshold_of_its_own(tmp_path: Path) -> None:
    images = photos(tmp_path / "photos", 32)
    how = {"precision": "int8", "calibration_images": images / "good", "check_images": images}
    checked = export(edges(), tmp_path / "a.onnx", **how)
    assert checked.rank_correlation is not None
    assert checked.rank_correlation > 0.9
    assert checked.auroc == (1, 1)
    assert checked.difference > 1e-4
    exported = load(tmp_path / "a.onnx")
    assert exported.calibration is not None
    assert (exported.calibration.origin, exported.calibration.images) == ("given", 21)
    assert exported.threshold not in (0.75, None)
    assert f"int8, {checked.words}." in (tmp_path / "a.onnx.md").read_text()
    assert b"QuantizeLinear" in (tmp_path / "a.onnx").read_bytes()
    with pytest.raises(ExportFailed, match=r"rank correlation .* AUROC .* nothing was written"):
        export(edges(), tmp_path / "b.onnx", **how, max_change=0.0)
    with pytest.raises(BadValue, match="3 images cannot show whether int8 keeps their order"):
        export(edges(), tmp_path / "b.onnx", **how | {"check_images": images / "scratched"})
    with pytest.raises(BadValue, match=r"3 normal --calibration-images.*expected at least 26"):
        export(edges(), tmp_path / "b.onnx", **how | {"calibration_images": images / "scratched"})
    assert not (tmp_path / "b.onnx").exists()


@pytest.mark.filterwarnings("error")
def test_scores_without_an_order_do_not_correlate() -> None:
    scores = np.array([0.1, 0.4, 0.2], np.float32)
    assert rank_correlation(scores, 2 * scores) == pytest.approx(1)
    assert rank_correlation(scores, -scores) == pytest.approx(-1)
    for flat in (np.ones(3, np.float32), np.array([0.1, np.nan, 0.2], np.float32)):
        assert rank_correlation(scores, flat) == 0


def test_openvino_computes_the_same(tmp_path: Path) -> None:
    checked = export(edges(), tmp_path / "a.xml", format="openvino")
    assert checked.runtime.startswith("openvino")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    compiled = openvino.Core().compile_model(tmp_path / "a.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    wanted = edges().score_pixels(pixels).image_scores
    np.testing.assert_allclose(compiled(pixels)["score"], wanted, rtol=1e-5)
    assert '"method": "edges"' in (tmp_path / "a.xml").read_text().replace("&quot;", '"')


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_program_in_cpp_says_the_same(tmp_path: Path, runtime: str) -> None:
    if sys.platform != "linux" or shutil.which("g++") is None or shutil.which("pkg-config") is None:
        pytest.skip("built on Linux with g++, whose libraries pkg-config knows")
    libraries = Path(openvino.__file__).parent / "libs"
    if runtime == "openvino":
        (library,) = libraries.glob("libopenvino.so.*")
        flags = ["-I", libraries.parent / "include", "-L", libraries, f"-l:{library.name}"]
    else:
        asked = subprocess.run(
            "pkg-config --cflags --libs libonnxruntime".split(), capture_output=True, text=True
        )
        if asked.returncode != 0:
            pytest.skip("onnxruntime's headers are not installed: apt install libonnxruntime-dev")
        flags = asked.stdout.split()
    source, program = DEPLOY / f"score_{runtime}.cpp", tmp_path / "score"
    subprocess.run(["g++", "-std=c++17", source, "-o", program, *flags], check=True)

    model = edges()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    between = float(model.score_pixels(pixels).image_scores.mean())
    model.calibration, model.threshold = calibrate([0.0, between]), between
    export(model, tmp_path / "a.onnx")
    variables = os.environ | {"LD_LIBRARY_PATH": str(libraries)}

    def said(file: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "a.onnx", file], cwd=tmp_path, env=variables, capture_output=True, text=True
        )

    decisions = set()
    file = tmp_path / "part.ppm"
    for image in pixels:
        Image.fromarray(image).save(file)
        wanted = load(tmp_path / "a.onnx").predict(image)
        done = said(file)
        assert done.returncode == 0, done.stderr
        numbers = dict(line.split() for line in done.stdout.splitlines() if " " in line)
        assert {name: float(number) for name, number in numbers.items()} == pytest.approx(
            {"score": wanted.score, "p_value": wanted.p_value}, rel=1e-5
        )
        assert wanted.decision in done.stdout.splitlines()
        decisions.add(wanted.decision)
    assert decisions == {"normal", "anomalous"}
    Image.fromarray(pixels[0, :8]).save(file)
    assert "part.ppm: expected a P6 of side 16" in said(file).stderr


def test_triton_gets_a_folder_with_its_configuration(tmp_path: Path) -> None:
    export(edges(), tmp_path / "repository/parts", target="triton")
    config = (tmp_path / "repository/parts/config.pbtxt").read_text()
    assert 'name: "parts"\nbackend: "onnxruntime"\nmax_batch_size: 16\ndynamic_batching {' in config
    assert 'input { name: "pixels" data_type: TYPE_UINT8 dims: [ 16, 16, 3 ] }' in config
    assert 'output { name: "score" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } }' in config
    assert 'output { name: "map" data_type: TYPE_FP32 dims: [ 16, 16 ] }' in config
    assert 'output { name: "decision" data_type: TYPE_BOOL dims: [ 1 ] reshape { shape: [ ] } }' in config
    assert (tmp_path / "repository/parts/README.md").exists()
    pixels = np.zeros((2, 16, 16, 3), np.uint8)
    assert load(tmp_path / "repository/parts/1/model.onnx").score_pixels(pixels).image_scores.shape == (2,)


def test_tritons_own_description_reads_the_configuration(tmp_path: Path) -> None:
    described = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient[grpc]")
    from google.protobuf import text_format

    export(edges(), tmp_path / "parts", target="triton")
    text = (tmp_path / "parts/config.pbtxt").read_text()
    config = text_format.Parse(text, described.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("parts", "onnxruntime", 16)
    assert config.dynamic_batching.max_queue_delay_microseconds > 0
    (pixels,) = config.input
    assert (pixels.name, pixels.data_type, list(pixels.dims)) == ("pixels", described.TYPE_UINT8, [16, 16, 3])
    outputs = {output.name: output for output in config.output}
    assert list(outputs["map"].dims) == [16, 16]
    for name, kind in (("score", described.TYPE_FP32), ("decision", described.TYPE_BOOL)):
        assert (outputs[name].data_type, list(outputs[name].dims)) == (kind, [1])
        assert outputs[name].HasField("reshape")
        assert list(outputs[name].reshape.shape) == []


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("a.onnx", {"precision": "int8"}, "need each other"),
        ("a.onnx", {"calibration_images": "photos"}, "need each other"),
        ("a.onnx", {"format": "openvino"}, r"ends with \.xml"),
        ("a", {"format": "openvino", "target": "triton"}, "leave out --format openvino"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, name: str, how: Any, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        export(edges(), tmp_path / name, **how)


def test_a_model_in_half_precision_is_refused(tmp_path: Path) -> None:
    class Half(Edges):
        compute = Compute(precision="bf16")

    with pytest.raises(BadValue, match='load it with precision="fp32"'):
        export(from_detector(Half(), CONFIG), tmp_path / "a.onnx")


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
