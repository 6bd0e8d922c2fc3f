"""Forms of an exported graph besides the ONNX file: OpenVINO's IR, and a model of Triton's repository."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from adcommon.deploy.model import ScorePixels
from adcommon.errors import ExportFailed
from adcommon.types.prediction import Prediction

if TYPE_CHECKING:
    from onnx import ModelProto

LARGEST_TRITON_BATCH = 16
_MICROSECONDS = 2000
_TRITON = {1: "TYPE_FP32", 2: "TYPE_UINT8", 9: "TYPE_BOOL"}
"""By the numbers that ONNX gives these types."""


def write_ir(onnx_file: Path, xml: Path) -> ScorePixels:
    """Write an ONNX file as OpenVINO's IR, in full precision, and load it as it will be served.

    Args:
        xml: its weights lie beside it, as .bin.

    Raises:
        ExportFailed: OpenVINO cannot read the graph.
    """
    import openvino

    core = openvino.Core()
    try:
        openvino.save_model(core.read_model(onnx_file), xml, compress_to_fp16=False)
        # On some CPUs it computes in bfloat16 unless it is told not to.
        compiled = core.compile_model(xml, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise ExportFailed(f"OpenVINO cannot read this model: {str(error)[:200]}") from error

    def score_pixels(pixels: UInt8[np.ndarray, "batch size size 3"]) -> Prediction:
        given = compiled({"pixels": pixels})
        # Of an IR that was read, an output may bear an inner tensor's name besides its own.
        outputs = {name: value.copy() for output, value in given.items() for name in output.names}
        return Prediction(outputs["score"], outputs.get("map"))

    return score_pixels


def triton_config(name: str, graph: "ModelProto") -> str:
    """The config.pbtxt of a graph: images of several requests are scored together.

    Args:
        name: of the model, and of its folder.
    """
    lines = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {LARGEST_TRITON_BATCH}",
        f"dynamic_batching {{ max_queue_delay_microseconds: {_MICROSECONDS} }}",
    ]
    for field, values in (("input", graph.graph.input), ("output", graph.graph.output)):
        for value in values:
            kind = value.type.tensor_type
            sides = [side.dim_value for side in kind.shape.dim[1:]]
            # One number for each image is no axis to Triton, which wants at least one.
            dims = "[ 1 ] reshape { shape: [ ] }" if not sides else f"[ {', '.join(map(str, sides))} ]"
            lines.append(
                f'{field} {{ name: "{value.name}" data_type: {_TRITON[kind.elem_type]} dims: {dims} }}'
            )
    return "\n".join(lines) + "\n"
