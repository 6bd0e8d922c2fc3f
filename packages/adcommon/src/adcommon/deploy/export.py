"""A trained detector as one ONNX file: pixels in, image score and anomaly map out.

Normalisation, network, map and score are all in the graph, so that nobody has to repeat them; what cannot be
in it, how a file becomes pixels, stands in the file's metadata beside the decision threshold. The file is
only written if onnxruntime computes the same numbers from it.
"""

import json
import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from adcommon.deploy.contract import LARGEST_BATCH
from adcommon.deploy.model import Model
from adcommon.deploy.runtime import LARGEST_FILE, METADATA, refusals, session
from adcommon.errors import BadValue, ExportFailed, WrongCheckpoint, require
from adcommon.io.files import atomic_write, plain, refuse_unwritable
from adcommon.types.prediction import Detector

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest difference allowed between torch and onnxruntime, as a share of the largest output."""


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


def export(model: Model, out: str | Path, *, batch_size: int = 1) -> float:
    """Write a model as an ONNX file, with its reference images if it has any.

    Args:
        model: on the CPU.
        out: the file.
        batch_size: images per call, fixed in the graph.

    Returns:
        The largest difference between torch's and onnxruntime's outputs, as a share of the largest output.

    Raises:
        MissingPackage: what writes or runs ONNX files is not installed.
        ExportFailed: the graph cannot be written, or computes something else.
    """
    if not 1 <= batch_size <= LARGEST_BATCH:
        raise BadValue(f"--batch-size is {batch_size}; expected 1 to {LARGEST_BATCH}")
    detector = model.detector
    if detector is None:
        raise BadValue("this model is an ONNX file already; export the folder that it was made of")
    require("export", "onnx", "onnxscript", "onnxruntime")
    refuse_unwritable(Path(out))
    graph = Pixels(detector).eval()
    if any(tensor.device.type != "cpu" for tensor in graph.state_dict().values()):
        raise BadValue('a model is exported on the CPU: load it with device="cpu"')
    size = detector.preprocess.size
    pixels = _test_pixels(batch_size, size)
    with torch.no_grad():
        wanted = graph(pixels)
        names = ["score", "map"][: len(wanted)]
        try:
            program = torch.export.export(graph, (pixels,))
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
    entry = proto.metadata_props.add()
    entry.key = METADATA
    facts = {
        "method": model.method,
        "category": model.category,
        "threshold": model.threshold,
        "preprocess": asdict(detector.preprocess),
        "calibration": None if model.calibration is None else asdict(model.calibration),
        "kinds": list(model.kinds),
    }
    entry.value = json.dumps(plain(facts))
    content = proto.SerializeToString()
    difference = _compare(content, pixels, wanted)
    atomic_write(Path(out), content)
    logger.info("wrote %s, %d bytes; onnxruntime differs from torch by %.1e", out, len(content), difference)
    return difference


def _compare(content: bytes, pixels: UInt8[Tensor, "batch size size 3"], wanted: tuple[Tensor, ...]) -> float:
    """Largest relative difference of the outputs of an ONNX model from those wanted."""
    where = "the exported model"
    try:
        with refusals(where):
            got = session(content, where).run(None, {"pixels": pixels.numpy()})
    except WrongCheckpoint as error:
        raise ExportFailed(f"{error}; nothing was written") from error
    differences = [
        float(np.abs(ours - theirs.numpy()).max() / max(float(theirs.abs().max()), np.finfo(np.float32).tiny))
        for ours, theirs in zip(got, wanted, strict=True)
    ]
    worst = max(differences)
    if not worst <= TOLERANCE:
        raise ExportFailed(
            f"onnxruntime's outputs differ from torch's by {worst:.1e} of the largest; allowed is "
            f"{TOLERANCE:.0e}, so nothing was written"
        )
    return worst


def _test_pixels(count: int, size: int) -> UInt8[Tensor, "count size size 3"]:
    """Smooth colours with noise on them: neither constant nor noise alone."""
    generator = torch.Generator().manual_seed(0)
    coarse: Float[Tensor, "count 3 8 8"] = torch.rand(count, 3, 8, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=True)
    noisy = 255 * smooth + 20 * torch.randn(count, 3, size, size, generator=generator)
    return noisy.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
