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
from adcommon.deploy.checked import Checked
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
LARGEST_SIDE = 2048
SHAPES = {
    "score": ("batch",),
    "map": ("batch", "height", "width"),
    "normalised_score": ("batch",),
    "p_value": ("batch",),
    "decision": ("batch",),
}
"""Of the outputs that a graph may have, by their names; docs/deploy.md says what they are."""
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
    checked: Checked | None = None
    """How its graph compares with the model that it was made of."""

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
        self._outputs = _outputs(self._session, self.preprocess.size, str(path))

    def score_pixels(self, pixels: UInt8[np.ndarray, "batch size size 3"]) -> Prediction:
        """Image scores and anomaly maps, in NumPy; the graph normalises the pixels itself.

        Raises:
            WrongCheckpoint: the graph cannot be computed, or gives something else than it says.
        """
        with refusals(str(self._path)):
            computed = dict(
                zip(self._outputs, self._session.run(self._outputs, {"pixels": pixels}), strict=True)
            )
        for name, array in computed.items():
            axes = len(SHAPES[name])
            if array.dtype != np.float32 or array.ndim != axes or len(array) != len(pixels):
                raise WrongCheckpoint(
                    f"{self._path}: the output {name} has shape {array.shape}; expected {len(pixels)} images "
                    f"of {axes} axes"
                )
        return Prediction(computed["score"], computed.get("map"))


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
                f"{where} needs more than {MEMORY_BYTES / 2**30:.0f} GiB of memory for a batch; give a "
                "smaller --batch-size"
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


def _outputs(opened: "InferenceSession", size: int, where: str) -> list[str]:
    """Which of score and map a graph gives, whose inputs and outputs are those of `ad export`."""
    found = [(each.name, each.type, each.shape) for each in opened.get_inputs()]
    if found != [("pixels", "tensor(uint8)", ["batch", size, size, 3])]:
        raise WrongCheckpoint(
            f"{where} takes {_listed(found)}; expected pixels, tensor(uint8), [batch, {size}, {size}, 3], as "
            "its preprocessing says, from `ad export`"
        )
    found = [(each.name, each.type, each.shape) for each in opened.get_outputs()]
    names = [name for name, _, _ in found]
    if "score" not in names or not all(map(_is_output, found)):
        raise WrongCheckpoint(
            f"{where} gives {_listed(found)}; expected score, tensor(float), [batch], and map, "
            "tensor(float), [batch, height, width], if any, from `ad export`"
        )
    return [name for name in ("score", "map") if name in names]


def _is_output(found: tuple[str, str, list[Any]]) -> bool:
    """True for one of `SHAPES`, whose sides are no larger than a map may be."""
    name, kind, shape = found
    axes = len(SHAPES.get(name, ()))
    sound = all(isinstance(side, int) and 1 <= side <= LARGEST_SIDE for side in shape[1:])
    wanted = "tensor(bool)" if name == "decision" else "tensor(float)"
    return kind == wanted and shape[:1] == ["batch"] and len(shape) == axes and sound


def _listed(found: list[tuple[str, str, list[Any]]]) -> str:
    return "; ".join(f"{name[:40]}, {kind}, {shape}"[:120] for name, kind, shape in found[:5]) or "nothing"
