"""Forms of an exported graph besides the ONNX file: OpenVINO's IR, and a model of Triton's repository."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

LARGEST_TRITON_BATCH = 16
_MICROSECONDS = 2000
_TRITON = {1: "TYPE_FP32", 2: "TYPE_UINT8", 9: "TYPE_BOOL"}
"""By the numbers that ONNX gives these types."""


def write_ir(onnx_file: Path, xml: Path) -> None:
    """Write an ONNX file as OpenVINO's IR, in full precision.

    Args:
        xml: its weights lie beside it, as .bin.
    """
    import openvino

    openvino.save_model(openvino.Core().read_model(onnx_file), xml, compress_to_fp16=False)


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
