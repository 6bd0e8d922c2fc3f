"""A trained detector as one graph: pixels in; score, anomaly map, p-value and decision out.

Normalisation, network, map, score and what is decided by it are all in the graph, so that nobody has to
repeat them; what cannot be in it, how a file becomes pixels, stands in the file's metadata. A file is only
written if the runtime that it is for computes from it what torch does.
"""

import json
import tempfile
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from adcommon.deploy.exporting.checked import (
    MAX_CHANGE,
    Checked,
    Precision,
    compare,
    labelled_images,
    predicted,
    refuse_few,
)
from adcommon.deploy.exporting.decisions import add_decisions
from adcommon.deploy.exporting.forms import triton_config, write_ir
from adcommon.deploy.exporting.quantise import quantised, shared_out
from adcommon.deploy.exporting.quiet import quiet
from adcommon.deploy.fastest import smooth_pixels
from adcommon.deploy.inputs import find_images
from adcommon.deploy.model import Model
from adcommon.deploy.runtime import LARGEST_FILE, METADATA, Exported, OnnxDetector
from adcommon.deploy.summary import worth_of
from adcommon.errors import BadValue, ExportFailed, WrongCheckpoint, require
from adcommon.io.files import atomic_folder, atomic_write, plain, refuse_foreign, refuse_unwritable
from adcommon.io.model_folder import CARD
from adcommon.models.compute import Computes
from adcommon.results.card import file_card
from adcommon.types.names import check_name
from adcommon.types.prediction import Detector
from adcommon.types.threshold import RATE, Threshold, calibrate

if TYPE_CHECKING:
    from onnx import ModelProto

Format = Literal["onnx", "openvino"]


class Pixels(nn.Module):
    """A detector that takes pixels; the networks it holds are its parts, so that their weights are found."""

    mean: Tensor
    std: Tensor

    def __init__(self, detector: Detector) -> None:
        """Whatever else the detector holds, such as reference features, becomes constant."""
        super().__init__()
        self.detector = detector
        for name, part in vars(detector).items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
        self.register_buffer("mean", torch.tensor(detector.preprocess.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(detector.preprocess.std).view(3, 1, 1))

    def forward(self, pixels: UInt8[Tensor, "batch size size 3"]) -> tuple[Tensor, ...]:
        """Image scores, and anomaly maps if the method has them."""
        images = pixels.permute(0, 3, 1, 2).float() / 255
        prediction = self.detector.score((images - self.mean) / self.std)
        maps = prediction.anomaly_maps
        return (prediction.image_scores,) if maps is None else (prediction.image_scores, maps)


def export(
    model: Model,
    out: str | Path,
    *,
    precision: Precision = "fp32",
    format: Format = "onnx",
    target: Literal["triton"] | None = None,
    check_images: str | Path | None = None,
    calibration_images: str | Path | None = None,
    max_change: float | None = None,
) -> Checked:
    """Write a model as a graph that takes any number of images, with its reference images if it has any.

    Args:
        model: on the CPU.
        out: the file, .onnx or .xml; for Triton the model's folder in the repository.
        precision: "int8" is another model, and is given a threshold of its own.
        format: "openvino" writes its IR.
        target: "triton" writes a folder with its configuration.
        check_images: folder of images that torch and the graph must agree on, at best none of the training's,
            good ones in a folder that says so; None: drawn pixels, and for int8 `calibration_images`.
        calibration_images: folder of normal images, for int8: every fourth gives the ranges of values, all
            others the threshold, which promises nothing if the model has learned from them.
        max_change: largest `Checked.change`; None: 1e-4, for int8 0.1.

    Returns:
        How the graph compares with torch; also in the file's metadata, and in a card beside it, OUT.md.

    Raises:
        MissingPackage: what writes or runs the file is not installed.
        ExportFailed: the graph cannot be written, or computes something else; nothing was written.
    """
    out = Path(out)
    detector = _checked_call(model, out, precision, format, target, calibration_images)
    images, labels = labelled_images(Path(check_images)) if check_images else ([], None)
    normal = find_images(Path(calibration_images)) if calibration_images else []
    rate = RATE if model.calibration is None else model.calibration.false_alarm_rate
    for_ranges, others = shared_out(normal, rate) if normal else ([], [])
    if precision != "fp32":
        refuse_few(images or normal)
    graph = _graph(detector)
    exported = replace(model, detector=None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if precision == "int8":
            graph = quantised(graph, (model.preprocess.read(image)[0] for image in for_ranges))
            calibration = _recalibrated(_served(graph, exported, folder, format), others, rate)
            exported = replace(exported, threshold=calibration.decision, calibration=calibration)
        add_decisions(graph, exported.threshold, exported.calibration)
        served = _served(graph, exported, folder, format)
        checked = compare(
            model,
            served,
            images or normal,
            labels,
            precision=precision,
            runtime=f"{served.runtime} {version(served.runtime)}",
        )
        allowed = MAX_CHANGE[precision] if max_change is None else max_change
        if not checked.change <= allowed:
            raise ExportFailed(
                f"{checked.words}: a change of {checked.change:.1e}, and --max-change is {allowed:g}; "
                "nothing was written"
            )
        _describe(graph, exported, checked)
        card = file_card(
            out.name,
            " ".join(filter(None, (exported.method, exported.category))),
            " ".join(worth_of(exported)),
            f"{precision}, {checked.words}",
        )
        _write(graph, card, out, folder, format, target)
    return checked


def _checked_call(
    model: Model,
    out: Path,
    precision: Precision,
    format: Format,
    target: str | None,
    normal: str | Path | None,
) -> Detector:
    """The detector, if what is asked for goes together and can be written."""
    if model.detector is None:
        raise BadValue("this model is an ONNX file already; export the folder that it was made of")
    if (precision == "int8") != (normal is not None):
        raise BadValue("--precision int8 and --calibration-images DIR, normal images, need each other")
    if target is not None and format != "onnx":
        raise BadValue(f"--target {target} serves the ONNX file; leave out --format {format}")
    require("export", "onnx", "onnxscript", "onnxruntime")
    if format == "openvino":
        require("openvino", "openvino")
    suffix = "" if target else ".xml" if format == "openvino" else ".onnx"
    if suffix and out.suffix != suffix:
        raise BadValue(f"--out is {out}; expected a name that ends with {suffix}")
    if target:
        check_name(out.name, "model in Triton's repository")
        refuse_foreign(out)
    refuse_unwritable(out / "config.pbtxt" if target else out)
    if any(tensor.device.type != "cpu" for tensor in Pixels(model.detector).state_dict().values()):
        raise BadValue('a model is exported on the CPU: load it with device="cpu"')
    if isinstance(model.detector, Computes) and not model.detector.compute.is_plain:
        raise BadValue('a model is exported in fp32: load it with precision="fp32", and not compiled')
    return model.detector


def _graph(detector: Detector) -> "ModelProto":
    """From `pixels` to `score` and, if the method has maps, `map`."""
    graph = Pixels(detector).eval()
    pixels = torch.from_numpy(smooth_pixels(2, detector.preprocess.size))
    with torch.no_grad(), quiet("onnxscript", "onnx_ir", "torch.onnx"):
        names = ["score", "map"][: len(graph(pixels))]
        try:
            program = torch.export.export(graph, (pixels,), dynamic_shapes=({0: torch.export.Dim("batch")},))
            exported = torch.onnx.export(
                program, dynamo=True, input_names=["pixels"], output_names=names, verbose=False
            )
        except (RuntimeError, TypeError, ValueError) as error:
            raise ExportFailed(f"this model cannot be written as ONNX: {error}") from error
    assert exported is not None  # torch gives None only to its old exporter's callers
    proto = exported.model_proto
    if proto.ByteSize() > LARGEST_FILE:
        raise ExportFailed(
            f"the model has {proto.ByteSize()} bytes; an ONNX file holds at most {LARGEST_FILE}"
        )
    # The batch has its name; notes and paths of the exporter are dropped.
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    return proto


def _served(graph: "ModelProto", exported: Model, folder: Path, format: Format) -> Model:
    """The graph on the runtime that it is for."""
    _describe(graph, exported, None)
    file = folder / "model.onnx"
    file.write_bytes(graph.SerializeToString())
    try:
        detector = OnnxDetector(file, runtime="openvino" if format == "openvino" else "onnxruntime")
        return replace(exported, score_pixels=detector.score_pixels, runtime=detector.runtime)
    except WrongCheckpoint as error:
        raise ExportFailed(f"{str(error).replace(str(file), 'the graph')}; nothing was written") from error


def _recalibrated(served: Model, normal: list[Path], rate: float) -> Threshold:
    """The threshold of a graph that is another model, from normal images."""
    found = [predicted(served, served.preprocess.read(image)[0]) for image in normal]
    scores = [float(each.image_scores.max()) for each in found]
    return calibrate(scores, rate, "given", [max(each.peaks) for each in found if each.peaks])


def _describe(graph: "ModelProto", exported: Model, checked: Checked | None) -> None:
    """Say in the graph's metadata what `Exported` holds."""
    facts = Exported(
        method=exported.method,
        category=exported.category,
        threshold=exported.threshold,
        preprocess=exported.preprocess,
        calibration=exported.calibration,
        kinds=tuple(exported.kinds),
        checked=checked,
    )
    del graph.metadata_props[:]
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(plain(asdict(facts)))


def _write(
    graph: "ModelProto", card: str, out: Path, folder: Path, format: Format, target: str | None
) -> None:
    content = graph.SerializeToString()
    if target == "triton":
        with atomic_folder(out) as place:
            (place / "config.pbtxt").write_text(triton_config(out.name, graph))
            (place / CARD).write_text(card, encoding="utf-8")
            (place / "1").mkdir()
            (place / "1" / "model.onnx").write_bytes(content)
        return
    if format == "openvino":
        (folder / "model.onnx").write_bytes(content)
        write_ir(folder / "model.onnx", folder / "model.xml")
        atomic_write(out.with_suffix(".bin"), (folder / "model.bin").read_bytes())
        content = (folder / "model.xml").read_bytes()
    atomic_write(out.with_name(f"{out.name}.md"), card)
    atomic_write(out, content)
