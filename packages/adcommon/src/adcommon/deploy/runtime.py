"""A detector in an ONNX file that `ad export` wrote; onnxruntime computes it, without the method or torch."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from adcommon.data.preprocess import Preprocess
from adcommon.errors import WrongCheckpoint, require
from adcommon.types.prediction import Prediction

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

METADATA = "adcommon"
"""Under which the file's facts stand in its metadata, as JSON."""


class OnnxDetector:
    """Scores images as the detector did that was exported, on the CPU."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            WrongCheckpoint: not an ONNX file, or none that `ad export` wrote.
            MissingPackage: onnxruntime is not installed.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise WrongCheckpoint(f"cannot read {path}: {error.strerror}") from error
        self._session = session(content, where=str(path))
        stored = self._session.get_modelmeta().custom_metadata_map.get(METADATA)
        if stored is None:
            raise WrongCheckpoint(
                f"{path} says nothing of its preprocessing; expected a file from `ad export`"
            )
        self.facts: dict[str, Any] = json.loads(stored)
        """Method, category, threshold, and the preprocessing of the exported detector."""
        self.preprocess = Preprocess(**self.facts["preprocess"])
        self._batch_size: int = self._session.get_inputs()[0].shape[0]

    def score_pixels(self, pixels: UInt8[np.ndarray, "batch size size 3"]) -> Prediction:
        """Image scores and anomaly maps, in NumPy; the graph normalises the pixels itself."""
        count = len(pixels)
        outputs: list[list[np.ndarray]] = []
        for first in range(0, count, self._batch_size):
            part = pixels[first : first + self._batch_size]
            missing = self._batch_size - len(part)  # the graph takes whole batches
            padded = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
            outputs.append(self._session.run(None, {"pixels": padded}))
        columns = [np.concatenate(column)[:count] for column in zip(*outputs, strict=True)]
        return Prediction(columns[0], columns[1] if len(columns) > 1 else None)


def session(content: bytes, where: str = "the exported model") -> "InferenceSession":
    """An onnxruntime session on the CPU of a model's bytes."""
    require("onnx", "onnxruntime")
    from onnxruntime import InferenceSession
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidProtobuf

    try:
        return InferenceSession(content, providers=["CPUExecutionProvider"])
    except (InvalidProtobuf, Fail) as error:
        raise WrongCheckpoint(f"{where} is not an ONNX file that can be run: {error}") from error
