"""A detector in an ONNX file that `ad export` wrote; onnxruntime computes it, without the method or torch."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from adcommon.data.kind import Kind
from adcommon.data.preprocess import Preprocess
from adcommon.deploy.graph import refuse_unsafe
from adcommon.errors import WrongCheckpoint, require
from adcommon.io.files import download_gone_wrong
from adcommon.io.schema import build
from adcommon.types.names import check_name
from adcommon.types.prediction import Prediction
from adcommon.types.threshold import Threshold

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

METADATA = "adcommon"
"""Under which the file's facts stand in its metadata, as JSON."""
LARGEST_BATCH, LARGEST_SIDE = 1024, 2048
LARGEST_FILE = 2**31 - 1
"""Bytes; protobuf's limit."""
MEMORY_BYTES = 2**31
"""That a graph may take for one batch, besides its weights; all graphs of a process share them."""
_LONGEST_METADATA = 2**20


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an exported file says besides its graph."""

    method: str
    category: str | None
    threshold: float | None
    preprocess: Preprocess
    calibration: Threshold | None = None
    """What the threshold was chosen from; it may have been changed since."""
    kinds: tuple[Kind, ...] = ()
    """What the normal images that the model knows look like."""

    def __post_init__(self) -> None:
        """Refuse names that no training gives."""
        check_name(self.method, "method")
        for name in self.category.split("+") if self.category else ():
            check_name(name, "category")


class OnnxDetector:
    """Scores images as the detector did that was exported, on the CPU."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            WrongCheckpoint: not an ONNX file, none that `ad export` wrote, or one whose graph and facts do
                not go together.
            MissingPackage: onnxruntime is not installed.
        """
        self._path = path
        self._session = session(_content(path), where=str(path))
        with refusals(str(path)):
            stored = self._session.get_modelmeta().custom_metadata_map.get(METADATA)
        if stored is None:
            raise WrongCheckpoint(
                f"{path} says nothing of its preprocessing; expected a file from `ad export`"
            )
        self.facts = _facts(stored, str(path))
        """Method, category, threshold, and the preprocessing of the exported detector."""
        self.preprocess = self.facts.preprocess
        self._batch_size = _batch_size(self._session, self.preprocess.size, str(path))

    def score_pixels(self, pixels: UInt8[np.ndarray, "batch size size 3"]) -> Prediction:
        """Image scores and anomaly maps, in NumPy; the graph normalises the pixels itself.

        Raises:
            WrongCheckpoint: the graph cannot be computed, or gives something else than it says.
        """
        count = len(pixels)
        outputs: list[list[np.ndarray]] = []
        for first in range(0, count, self._batch_size):
            part = pixels[first : first + self._batch_size]
            missing = self._batch_size - len(part)  # the graph takes whole batches
            padded = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
            with refusals(str(self._path)):
                computed = self._session.run(None, {"pixels": padded})
            for name, array, axes in zip(("score", "map"), computed, (1, 3), strict=False):
                if array.dtype != np.float32 or array.ndim != axes or len(array) != self._batch_size:
                    raise WrongCheckpoint(
                        f"{self._path}: the output {name} has shape {array.shape}; expected "
                        f"{self._batch_size} images of {axes} axes"
                    )
            outputs.append(computed)
        columns = [np.concatenate(column)[:count] for column in zip(*outputs, strict=True)]
        return Prediction(columns[0], columns[1] if len(columns) > 1 else None)


def session(content: bytes, where: str) -> "InferenceSession":
    """An onnxruntime session on the CPU of a model's bytes.

    Raises:
        WrongCheckpoint: they are no ONNX file, or one that reads other files or may run for ever.
    """
    require("onnx", "onnxruntime")
    refuse_unsafe(content, where)
    from onnxruntime import InferenceSession, SessionOptions

    _share_memory()
    options = SessionOptions()
    options.log_severity_level = 4  # what goes wrong is said by us, once
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    with refusals(where):
        # Folding would compute constants of any size in memory that no limit holds for.
        return InferenceSession(
            content, options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
        )


@contextmanager
def refusals(where: str) -> Iterator[None]:
    """Turn whatever onnxruntime raises into `WrongCheckpoint`, in our words."""
    try:
        yield
    except WrongCheckpoint:
        raise
    except _raised() as error:
        if "Available memory" in str(error) or isinstance(error, MemoryError):
            raise WrongCheckpoint(
                f"{where} needs more than {MEMORY_BYTES / 2**30:.0f} GiB of memory for a batch; export the "
                "model with a smaller --batch-size"
            ) from error
        reason = str(error).strip().split("\n")[0][:200]
        raise WrongCheckpoint(f"{where} is not an ONNX file that can be run: {reason}") from error


@cache
def _raised() -> tuple[type[Exception], ...]:
    """Every error that onnxruntime has; they share no base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state

    kinds = vars(onnxruntime_pybind11_state).values()
    theirs = (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception))
    return (*theirs, RuntimeError, ValueError, MemoryError)


@cache
def _share_memory() -> None:
    """Give all sessions that ask for it one memory with a limit."""
    import onnxruntime as ort

    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    limits = ort.OrtArenaCfg({"max_mem": MEMORY_BYTES, "arena_extend_strategy": 1})
    with suppress(*_raised()):  # the program that we run in has given one already
        ort.create_and_register_allocator(place, limits)


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise WrongCheckpoint(f"{path} has {path.stat().st_size} bytes; ONNX files have {LARGEST_FILE}")
        if reason := download_gone_wrong(path):
            raise WrongCheckpoint(f"cannot read {path}: {reason}")
        return path.read_bytes()
    except OSError as error:
        raise WrongCheckpoint(f"cannot read {path}: {error.strerror}") from error


def _facts(stored: str, where: str) -> Exported:
    try:
        if len(stored) > _LONGEST_METADATA:
            raise ValueError("it is too long")
        values: Any = json.loads(stored)
    except (ValueError, RecursionError) as error:
        raise WrongCheckpoint(f"{where}: its metadata is no JSON: {str(error)[:100]}") from error
    return build(Exported, values, where, error=WrongCheckpoint, prefix="metadata.")


def _batch_size(opened: "InferenceSession", size: int, where: str) -> int:
    """Images per call, of a graph whose inputs and outputs are those of `ad export`."""
    inputs, outputs = opened.get_inputs(), opened.get_outputs()
    batch = inputs[0].shape[0] if inputs and inputs[0].shape else None
    if not isinstance(batch, int) or not 1 <= batch <= LARGEST_BATCH:
        raise WrongCheckpoint(f"{where} takes batches of {batch}; expected 1 to {LARGEST_BATCH} images")
    found = [(each.name, each.type, each.shape) for each in inputs]
    if found != [("pixels", "tensor(uint8)", [batch, size, size, 3])]:
        raise WrongCheckpoint(
            f"{where} takes {_listed(found)}; expected pixels, tensor(uint8), [{batch}, {size}, {size}, 3], "
            "as its preprocessing says"
        )
    found = [(each.name, each.type, each.shape) for each in outputs]
    score, maps = ("score", "tensor(float)", [batch]), found[1:]
    sides = maps[0][2][1:] if maps and len(maps[0][2]) == 3 else []
    sound = all(isinstance(side, int) and 1 <= side <= LARGEST_SIDE for side in sides)
    if found[:1] != [score] or (maps and (not sound or maps != [("map", score[1], [batch, *sides])])):
        raise WrongCheckpoint(
            f"{where} gives {_listed(found)}; expected score, tensor(float), [{batch}], and map, "
            f"tensor(float), [{batch}, height, width], if any"
        )
    return batch


def _listed(found: list[tuple[str, str, list[Any]]]) -> str:
    return "; ".join(f"{name[:40]}, {kind}, {shape}"[:120] for name, kind, shape in found[:3]) or "nothing"
