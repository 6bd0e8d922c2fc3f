"""A graph in whole numbers of 8 bits: smaller, often faster, and another model, whose threshold is void."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from adcommon.deploy.exporting.quiet import quiet
from adcommon.errors import BadValue, ExportFailed
from adcommon.types.threshold import images_needed

if TYPE_CHECKING:
    from onnx import ModelProto

MOST_FOR_RANGES = 32
"""Images that the ranges of values are taken from; all their intermediate values are held at once."""
_EVERY = 4


def shared_out(images: Sequence[Path], false_alarm_rate: float) -> tuple[list[Path], list[Path]]:
    """Normal images for the ranges of values, every fourth, and the others, for the threshold.

    Raises:
        BadValue: the others are too few for the rate.
    """
    ranges = list(images[::_EVERY])[:MOST_FOR_RANGES]
    others = [image for place, image in enumerate(images) if place % _EVERY]
    if len(others) < (needed := images_needed(false_alarm_rate)):
        raise BadValue(
            f"{len(images)} normal --calibration-images: every fourth gives the ranges of values, "
            f"the others a threshold, and a false-alarm rate of {false_alarm_rate:g} needs {needed} of them; "
            f"expected at least {-(-needed * _EVERY // (_EVERY - 1))}"
        )
    return ranges, others


def quantised(graph: "ModelProto", batches: Iterator[UInt8[np.ndarray, "tiles size size 3"]]) -> "ModelProto":
    """The same graph with 8-bit weights, a scale for each channel, and 8-bit values, in the form QDQ.

    Args:
        batches: pixels, whose values' smallest and largest are the ranges.

    Raises:
        ExportFailed: onnxruntime cannot.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, np.ndarray] | None:
            pixels = next(batches, None)
            return None if pixels is None else {"pixels": pixels}

    with tempfile.TemporaryDirectory() as folder, quiet(""):
        raw, prepared, written = (Path(folder) / name for name in ("raw.onnx", "prepared.onnx", "int8.onnx"))
        raw.write_bytes(graph.SerializeToString())
        try:
            quant_pre_process(raw, prepared, skip_symbolic_shape=True)
            quantize_static(prepared, written, Reader(), per_channel=True)
        except Exception as error:  # whatever it raises has no common base
            raise ExportFailed(f"onnxruntime cannot quantise this model: {str(error)[:200]}") from error
        return onnx.load(written)
