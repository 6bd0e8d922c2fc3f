"""Files of tensors, the authors' and our own: tensors and plain values come out, no code of them runs.

Torch's restricted unpickler builds what is in them. What it refuses is looked up here beforehand, because it
words its refusals in many ways, and some of its words advise to load the file nevertheless.
"""

import io
import mmap
import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from adcommon.errors import UserError, WrongCheckpoint
from adcommon.io.files import download_gone_wrong

DAMAGED = (
    *(RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError),
    *(AssertionError, ArithmeticError, MemoryError, pickle.UnpicklingError, zipfile.BadZipFile),
)
"""What torch raises on a file cut short or overwritten, depending on where the damage lies."""

SafeClass = Callable[..., object] | tuple[Callable[..., object], str]
"""A class, or a stand-in for one that is not installed and its name: `(dict, "yacs.config.CfgNode")`."""
EASYDICT_AND_SCALARS: tuple[SafeClass, ...] = (
    (OrderedDict, "easydict.EasyDict"),
    (scalar, "numpy.core.multiarray.scalar"),  # NumPy 1 wrote this name, NumPy 2 the next
    (scalar, "numpy._core.multiarray.scalar"),
    *(np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType),
)
"""What several authors' files hold besides tensors: options as EasyDict, measurements as NumPy's scalars."""

_OF_TENSORS = re.compile(
    r"torch\.(\w+|_utils\.\w+|_tensor\.\w+|nn\.parameter\.\w+|storage\.\w+|serialization\.\w+|_C\.\w+)"
    r"|collections\.(OrderedDict|defaultdict|Counter)|_codecs\.encode|(builtins|__builtin__)\.(set|complex)"
)
"""What any checkpoint may name; torch looks at each of them again."""
_NAME = re.compile(r"\w[\w.<>]*\.[\w.<>]+")
_PROGRAMS = ("subprocess", "multiprocessing", "ctypes", "builtins", "__builtin__")
_PICKLES_OF_OLD_FILES = 5  # magic number, version, system, content, keys of the storages


def load_foreign(path: Path, safe_classes: Sequence[SafeClass] = ()) -> dict[str, Any]:
    """The dict in an authors' checkpoint; see `load_safely`.

    Raises:
        WrongCheckpoint: also a file that holds no dict, or one with other keys than names.
    """
    content = load_safely(path, safe_classes)
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise WrongCheckpoint(f"{path} holds a {type(content).__name__}, expected a dict of tensors")
    return content


def load_safely(path: Path, safe_classes: Sequence[SafeClass] = ()) -> Any:
    """What is in an authors' file (torch's zip and older format, whatever the suffix), on the CPU.

    Besides tensors and plain values only `safe_classes` are built; no other code of the file runs.

    Raises:
        WrongCheckpoint: no such file, a damaged one, one that holds another class, or one that would take
            more memory than it has bytes.
    """
    if not path.is_file():
        raise WrongCheckpoint(f"no checkpoint at {path}; expected the file that the authors published")
    try:
        _refuse_code(path, safe_classes)
        with torch.serialization.safe_globals(list(safe_classes)):
            content = torch.load(path, map_location="cpu", weights_only=True)
        _refuse_inflated(content, path)
    except UserError:
        raise
    except DAMAGED as error:
        reason = download_gone_wrong(path) or "it is damaged, or holds more than tensors and plain values"
        raise WrongCheckpoint(f"cannot read the checkpoint {path}: {reason}") from error
    return content


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """The tensors in a file, on the CPU.

    Raises:
        WrongCheckpoint: it is damaged, or something else.
    """
    try:
        return load_file(file)
    except (SafetensorError, *DAMAGED) as error:
        reason = download_gone_wrong(file) or "it is damaged, or no file of safetensors"
        raise WrongCheckpoint(f"cannot read {file}: {reason}") from error


def state_dict_in(content: object, where: str) -> dict[str, Tensor]:
    """A state dict, if it is one: names and tensors.

    Raises:
        WrongCheckpoint: it is something else, or came from `where` with an entry that is no tensor.
    """
    if not isinstance(content, Mapping):
        raise WrongCheckpoint(f"{where} holds no state dict; expected names and tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WrongCheckpoint(
                f"{where} holds no state dict: {str(name)[:60]} is a {type(value).__name__}; expected names "
                "and tensors"
            )
    return dict(content)


def number_in(value: object, name: str) -> float:
    """A measured number, if it is one.

    Raises:
        WrongCheckpoint: it is something else; `name` says where it stands.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise WrongCheckpoint(f"{name} is a {type(value).__name__}; expected a number")
    return float(value)


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def _refuse_code(path: Path, safe_classes: Sequence[SafeClass]) -> None:
    """Refuse a file that names a function or class of which nothing is known."""
    safe = {entry[1] if isinstance(entry, tuple) else _name_of(entry) for entry in safe_classes}
    for name in filter(_NAME.fullmatch, _names_in(path)):
        if _OF_TENSORS.fullmatch(name) or name in safe:
            continue
        module, _, last = name.rpartition(".")
        if last[:1].islower() or module.partition(".")[0] in _PROGRAMS:
            raise WrongCheckpoint(f"{path} is refused: it would run {name}; do not use this file")
        raise WrongCheckpoint(
            f"{path} is refused: it holds an object of class {name}, and building it could run code; ask its "
            "author for a file of tensors alone"
        )


def _name_of(known: Callable[..., object]) -> str:
    return f"{known.__module__}.{getattr(known, '__qualname__', '')}"


def _names_in(path: Path) -> Iterator[str]:
    """Every function and class that the pickles of a file name."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(entry.filename.endswith("/constants.pkl") for entry in entries):
                raise WrongCheckpoint(f"{path} is a program (TorchScript); expected a checkpoint of tensors")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise WrongCheckpoint(f"{path} is no file of torch, which compresses nothing")
            for entry in entries:
                if entry.filename.endswith("/data.pkl"):
                    yield from _names_of_pickle(io.BytesIO(archive.read(entry)))
    elif path.stat().st_size:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for _ in range(_PICKLES_OF_OLD_FILES):
                yield from _names_of_pickle(content)


def _names_of_pickle(content: io.BytesIO | mmap.mmap) -> Iterator[str]:
    texts: list[str] = []
    for code, argument, _ in pickletools.genops(content):  # type: ignore[arg-type]  # mmaps are read alike
        if code.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif code.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts = [*texts[-1:], argument]


def _refuse_inflated(content: object, path: Path) -> None:
    """Refuse tensors that are larger than what is stored of them: a copy of one could take any memory."""
    if isinstance(content, Tensor):
        stored = content.layout is torch.strided and not content.is_meta and not content.is_quantized
        if not stored or content.nbytes > max(content.untyped_storage().nbytes(), path.stat().st_size):
            raise WrongCheckpoint(
                f"{path} holds a tensor of shape {tuple(content.shape)} that is not stored as such; "
                "expected plain tensors"
            )
    elif isinstance(content, Mapping):
        for value in content.values():
            _refuse_inflated(value, path)
    elif isinstance(content, list | tuple):
        for value in content:
            _refuse_inflated(value, path)
