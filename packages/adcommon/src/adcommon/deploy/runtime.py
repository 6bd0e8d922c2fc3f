"""A detector in an ONNX file that `ad export` wrote; scored by onnxruntime, without the method's package."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.data.preprocess import Preprocess
from adcommon.errors import UserError, WrongCheckpoint
from adcommon.types.prediction import Detector, Prediction

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

METADATA = "adcommon"
"""Under which the file's facts stand in its metadata, as JSON."""


class OnnxDetector:
    """Scores images as the detector did that was exported.

    The graph takes pixels and normalises them itself, so `preprocess` leaves them in [0, 1].
    """

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            WrongCheckpoint: not an ONNX file, or none that `ad export` wrote.
            UserError: onnxruntime is not installed.
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
        preprocess = Preprocess(**self.facts["preprocess"])
        self.preprocess = replace(preprocess, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self._batch_size: int = self._session.get_inputs()[0].shape[0]

    def score(self, images: Float[Tensor, "batch 3 height width"]) -> Prediction:
        """Image scores and anomaly maps of images in [0, 1], on the CPU."""
        pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        count = len(pixels)
        outputs: list[list[np.ndarray]] = []
        for first in range(0, count, self._batch_size):
            part = pixels[first : first + self._batch_size]
            missing = self._batch_size - len(part)  # the graph takes whole batches
            padded = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
            outputs.append(self._session.run(None, {"pixels": padded}))
        columns = [torch.from_numpy(np.concatenate(column)[:count]) for column in zip(*outputs, strict=True)]
        return Prediction(columns[0], columns[1] if len(columns) > 1 else None)


def load_onnx(path: Path, method: str | None = None) -> tuple[Detector, float | None]:
    """The detector in a file, and its decision threshold if it has one.

    Args:
        method: refuse models of other methods.
    """
    detector = OnnxDetector(path)
    if method is not None and detector.facts["method"] != method:
        raise WrongCheckpoint(f"{path} holds a model of {detector.facts['method']}, not of {method}")
    return detector, detector.facts["threshold"]


def session(content: bytes, where: str = "the exported model") -> "InferenceSession":
    """An onnxruntime session on the CPU of a model's bytes."""
    require("onnxruntime")
    from onnxruntime import InferenceSession
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidProtobuf

    try:
        return InferenceSession(content, providers=["CPUExecutionProvider"])
    except (InvalidProtobuf, Fail) as error:
        raise WrongCheckpoint(f"{where} is not an ONNX file that can be run: {error}") from error


def require(*packages: str) -> None:
    """Refuse to go on without packages of the extra `export`.

    Raises:
        UserError: names the missing ones and says how to install them.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise UserError(
            f"ONNX files need {', '.join(missing)}, not installed here: uv pip install 'adcommon[export]'"
        )
