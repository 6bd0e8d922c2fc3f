"""A detector in an ONNX file that `ad export` wrote, computed without the method or torch.

By onnxruntime, which it was checked with when it was written, or by OpenVINO.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from adcommon.data.kind import Kind
from adcommon.data.preprocess import Preprocess
from adcommon.deploy.contract import AXES, Session, contract
from adcommon.deploy.exporting.checked import Checked
from adcommon.deploy.fastest import faster, smooth_pixels
from adcommon.deploy.graph import metadata, refuse_unsafe
from adcommon.deploy.openvino import OpenVinoSession
from adcommon.errors import BadValue, UserError, WrongCheckpoint, require, unknown_name
from adcommon.io.files import download_gone_wrong
from adcommon.io.schema import build
from adcommon.types.names import check_name
from adcommon.types.prediction import Prediction
from adcommon.types.threshold import Threshold
from adcommon.types.values import Runtime

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

METADATA = "adcommon"
"""Under which the file's facts stand in its metadata, as JSON."""
LARGEST_FILE = 2**31 - 1
"""Bytes; protobuf's limit."""
MEMORY_BYTES = 2**31
"""That a graph may take for one batch, besides its weights; all graphs of a process share them."""
_LONGEST_METADATA = 2**20
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
"""Where onnxruntime computes -> its name for it."""


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
    """Scores images as the detector did that was exported."""

    def __init__(
        self,
        path: Path,
        *,
        runtime: Runtime = "onnxruntime",
        device: str = "cpu",
        threads: int | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Open the file; `session` and `OpenVinoSession` say what the arguments mean.

        Args:
            runtime: "auto" takes the faster one of those that are installed, see `fastest`.

        Raises:
            WrongCheckpoint: not an ONNX file, none that `ad export` wrote, or one whose graph and facts do
                not go together.
            MissingPackage: the runtime is not installed.
            BadValue: it does not compute on this device, or is not told what to do with these options.
        """
        if runtime == "auto" and options:
            raise BadValue("options are those of one runtime, and auto takes either; name the one")
        if runtime == "openvino" and device != "cpu":
            raise BadValue(f"OpenVINO is used on the CPU only, not on {device}; onnxruntime may run there")
        self._path, where = path, str(path)
        content = _content(path)
        by_onnxruntime = partial(session, content, where, device=device, threads=threads, options=options)
        by_openvino = partial(_by_openvino, content, where, threads, options)
        has_both = all(find_spec(name) is not None for name in ("onnxruntime", "openvino"))
        if runtime == "auto" and not has_both and find_spec("openvino") is not None:
            runtime = "openvino"
        self._session: Session = by_openvino() if runtime == "openvino" else by_onnxruntime()
        self.runtime = "openvino" if runtime == "openvino" else "onnxruntime"
        """What computes it."""
        self.facts = _facts(content, where)
        """Method, category, threshold, and the preprocessing of the exported detector."""
        self.preprocess = self.facts.preprocess
        size = self.preprocess.size
        self._outputs = contract(self._session, size, where)
        if runtime == "auto" and has_both and device == "cpu":
            pixels, key = smooth_pixels(1, size), (blake2b(content).digest(), threads)
            with refusals(where):
                chosen = faster(self._session, by_openvino, self._outputs, pixels, where, key)
            if chosen is not None:
                self._session, self.runtime = chosen, "openvino"

    def score_pixels(self, pixels: UInt8[np.ndarray, "batch size size 3"]) -> Prediction:
        """Image scores and anomaly maps, in NumPy; the graph normalises the pixels itself.

        Raises:
            WrongCheckpoint: the graph cannot be computed, or gives something else than it says.
        """
        with refusals(str(self._path)):
            arrays = self._session.run(self._outputs, {"pixels": pixels})
        computed = dict(zip(self._outputs, arrays, strict=True))
        for name, array in computed.items():
            axes = AXES[name]
            if array.dtype != np.float32 or array.ndim != axes or len(array) != len(pixels):
                raise WrongCheckpoint(
                    f"{self._path}: the output {name} has shape {array.shape}; expected {len(pixels)} images "
                    f"of {axes} axes"
                )
        return Prediction(computed["score"], computed.get("map"))


def session(
    content: bytes,
    where: str,
    *,
    device: str = "cpu",
    threads: int | None = None,
    options: Mapping[str, str] | None = None,
) -> "InferenceSession":
    """An onnxruntime session of a model's bytes.

    Args:
        device: cpu, cuda, tensorrt, coreml or directml, with a number where there are several: cuda:1.
        threads: of the CPU, for one batch; by default all cores.
        options: of onnxruntime's provider for the device, by its names.

    Raises:
        WrongCheckpoint: they are no ONNX file, or one that reads other files or may run for ever.
        BadValue: this onnxruntime cannot compute on the device.
    """
    require("onnx", "onnxruntime")
    kind, _, number = device.partition(":")
    if kind not in _PROVIDERS or (number and not number.isdecimal()):
        raise unknown_name("device of onnxruntime", device, _PROVIDERS)
    refuse_unsafe(content, where)
    from onnxruntime import InferenceSession, SessionOptions, get_available_providers

    provider = _PROVIDERS[kind]
    if provider not in get_available_providers():
        raise BadValue(
            f"this onnxruntime has no {provider}, only {', '.join(get_available_providers())}; another "
            "build of it may: onnxruntime-gpu, onnxruntime-directml"
        )
    _share_memory()
    settings = SessionOptions()
    settings.log_severity_level = 4  # what goes wrong is said by us, once
    settings.add_session_config_entry("session.use_env_allocators", "1")
    settings.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    settings.intra_op_num_threads = threads or 0
    # Threads that wait for work spin by default, on cores that decode the next images.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if kind == "directml":
        settings.enable_mem_pattern = False  # it cannot
    chosen: dict[str, str] = {"device_id": number} if number else {}
    if kind == "cuda":
        chosen["gpu_mem_limit"] = str(MEMORY_BYTES)
    with refusals(where):
        # Folding would compute constants of any size in memory that no limit holds for.
        opened = InferenceSession(
            content,
            settings,
            providers=[
                (provider, {**chosen, **(options or {})}),
                *(["CPUExecutionProvider"] * (kind != "cpu")),
            ],
            disabled_optimizers=["ConstantFolding"],
        )
    if provider not in opened.get_providers():  # it takes the CPU without a word
        raise BadValue(f"onnxruntime could not start {provider}; are its driver and libraries installed?")
    return opened


def _by_openvino(
    content: bytes, where: str, threads: int | None, options: Mapping[str, str] | None
) -> OpenVinoSession:
    with refusals(where):
        return OpenVinoSession(content, where, memory=MEMORY_BYTES, threads=threads, options=options)


@contextmanager
def refusals(where: str) -> Iterator[None]:
    """Turn whatever a runtime raises into `WrongCheckpoint`, in our words."""
    try:
        yield
    except UserError:
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
    """Every error that a runtime has; onnxruntime's share no base but Exception."""
    if find_spec("onnxruntime") is None:
        return (RuntimeError, ValueError, TypeError, MemoryError)
    from onnxruntime.capi import onnxruntime_pybind11_state

    kinds = vars(onnxruntime_pybind11_state).values()
    theirs = (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception))
    return (*theirs, RuntimeError, ValueError, TypeError, MemoryError)


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


def _facts(content: bytes, where: str) -> Exported:
    try:
        stored = metadata(content, METADATA)
        if stored is None:
            raise WrongCheckpoint(
                f"{where} says nothing of its preprocessing; expected a file from `ad export`"
            )
        if len(stored) > _LONGEST_METADATA:
            raise ValueError("it is too long")
        values: Any = json.loads(stored)
    except WrongCheckpoint:
        raise
    except (ValueError, RecursionError) as error:
        raise WrongCheckpoint(f"{where}: its metadata is no JSON: {str(error)[:100]}") from error
    return build(Exported, values, where, error=WrongCheckpoint, prefix="metadata.")
