"""The model folder (config.json, model.safetensors, README.md), the resume state, and the authors' own files.

Nothing here executes code from a file: models are safetensors and JSON, everything else is read by torch's
restricted unpickler.
"""

import json
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adcommon import report
from adcommon.errors import WrongCheckpoint
from adcommon.files import atomic_folder, atomic_write, download_gone_wrong, json_text, plain
from adcommon.runs import library_versions

FORMAT_VERSION = 1
"""Of the model folder; a folder with a higher one was written by a later version of this package."""

_NEEDED = ("method", "category", "recipe", "backbone", "preprocess", "threshold", "metrics")
_ADDED = ("format_version", "versions")
_TENSORS, _CONFIG, _CARD = "model.safetensors", "config.json", "README.md"
_DAMAGED = (
    *(RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError),
    *(AssertionError, OverflowError, MemoryError),
)
"""What torch raises on a file cut short or overwritten, depending on where the damage lies."""


def save_model(folder: Path, *, tensors: Mapping[str, Tensor], config: Mapping[str, Any], card: str) -> None:
    """Write a model folder, all of it or nothing; a model that was there before is replaced.

    Tensors may be on any device, share memory or be laid out in any way: each is stored whole, on its own.
    The config holds "method", "category", "recipe" (its fields), "backbone" (exact tag), "preprocess"
    (fields of `Preprocess`), "threshold" (fields of `Threshold`, or None), "metrics" (rows of the report) and
    whatever else the method needs; format version and library versions are added. See `model_card`.
    """
    if missing := [name for name in _NEEDED if name not in config]:
        raise ValueError(f"the model's config lacks {', '.join(missing)}")
    versions = library_versions(config["method"])
    full = {"format_version": FORMAT_VERSION, **config, "versions": versions}
    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with atomic_folder(folder) as new:
        save_file(own, new / _TENSORS, metadata={"format": "pt"})
        (new / _CONFIG).write_text(json_text(full), encoding="utf-8")
        (new / _CARD).write_text(card, encoding="utf-8")


def load_model(folder: Path, method: str | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the tensors, on the CPU, of a model folder; of any method if none is named.

    Raises:
        WrongCheckpoint: no model folder, a damaged one, another method's, or a newer format.
    """
    config = _read_config(folder)
    if config["format_version"] > FORMAT_VERSION:
        raise WrongCheckpoint(
            f"{folder} has format version {config['format_version']}, adcommon reads up to {FORMAT_VERSION}; "
            f"update it (the model was written with adcommon {config['versions'].get('adcommon', 'unknown')})"
        )
    if method is not None and config["method"] != method:
        raise WrongCheckpoint(
            f"{folder} is a model of {config['method']}, not of {method}; use {config['method']}-predict, "
            "or `ad predict`, which finds the method by itself"
        )
    file = folder / _TENSORS
    if not file.is_file():
        raise WrongCheckpoint(f"{folder} has no {_TENSORS}; copy the whole folder that the training wrote")
    try:
        return config, load_file(file)
    except (SafetensorError, OSError) as error:
        raise WrongCheckpoint(f"cannot read {file}: {download_gone_wrong(file) or error}") from error


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors, which came from `where`, into a module; every key must match in name and shape.

    Raises:
        WrongCheckpoint: names every key that is missing, left over or of another shape; nothing was copied.
    """
    own = module.state_dict()
    problems = [f"missing: {name} {tuple(own[name].shape)}" for name in own if name not in tensors]
    problems += [f"unexpected: {name} {tuple(tensors[name].shape)}" for name in tensors if name not in own]
    problems += [
        f"shape: {name} is {tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if problems:
        raise WrongCheckpoint(
            f"{where} does not fit {type(module).__name__}: {len(problems)} entries differ; was it trained "
            "with another backbone or recipe?\n  " + "\n  ".join(problems)
        )
    module.load_state_dict(dict(tensors), strict=True)


def save_resume(path: Path, state: dict[str, Any]) -> None:
    """Write everything a training needs to go on: dicts, lists and tuples of tensors, numbers and text."""
    _check_plain(state, "state")
    atomic_write(path, lambda file: torch.save(state, file))


def load_resume(path: Path) -> dict[str, Any] | None:
    """What `save_resume` wrote, with tensors on the CPU; None if there is nothing.

    Raises:
        WrongCheckpoint: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, *_DAMAGED) as error:
        raise WrongCheckpoint(
            f"cannot read the resume state {path}: {_first_line(error)}\n  Start afresh with --force"
        ) from error


SafeClass = Callable[..., object] | tuple[Callable[..., object], str]
"""A class, or a stand-in for one that is not installed and its name: `(dict, "yacs.config.CfgNode")`."""


def load_foreign(path: Path, safe_classes: Sequence[SafeClass] = ()) -> dict[str, Any]:
    """The dict in an authors' checkpoint; see `load_safely`.

    Raises:
        WrongCheckpoint: also a file that holds no dict.
    """
    content = load_safely(path, safe_classes)
    if not isinstance(content, dict):
        raise WrongCheckpoint(f"{path} holds a {type(content).__name__}, expected a dict of tensors")
    return content


def load_safely(path: Path, safe_classes: Sequence[SafeClass] = ()) -> Any:
    """What is in an authors' file (torch's zip and older format, whatever the suffix), on the CPU.

    Besides tensors and plain values only `safe_classes` are built; no other code of the file runs.

    Raises:
        WrongCheckpoint: no such file, a damaged one, or one that holds another class.
    """
    if not path.is_file():
        raise WrongCheckpoint(f"no checkpoint at {path}; expected the file that the authors published")
    try:
        with torch.serialization.safe_globals(list(safe_classes)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, *_DAMAGED) as error:
        if refused := re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)", str(error)):
            reason = (
                f"it holds an object of class {refused.group(1)}, and building it could run code. If you "
                "trust the file, load it with torch.load(..., weights_only=False) and save its tensors alone"
            )
        else:
            reason = download_gone_wrong(path) or _first_line(error)
        raise WrongCheckpoint(f"cannot read the checkpoint {path}: {reason}") from error


def model_card(config: Mapping[str, Any], *, title: str, paper: str, data_notice: str, command: str) -> str:
    """README.md of a model folder: what it is, how it was made, what it may be used for, how to load it.

    `config` is that of `save_model`; `paper` the citation with its URL; `data_notice` the licence of the
    training images, which a model may inherit; `command` the command line that trained it.
    """
    values = plain(config)
    method, rows, threshold = values["method"], values["metrics"], values["threshold"]
    decision = "No decision threshold is stored."
    if threshold is not None:
        decision = (
            f"An image is called anomalous if its score is greater than {threshold['value']:.6g}, calibrated "
            f"on {threshold['images']} normal images kept out of training for a false-alarm rate of "
            f"{threshold['false_alarm_rate']:g}"
            f"{'.' if threshold['supported'] else ', which that few cannot support.'}"
        )
    measured = report.markdown(rows) if rows else "Not evaluated.\n"
    recipe = "\n".join(f"- `{name}`: {value}" for name, value in values["recipe"].items())
    return f"""---
library_name: adcommon
tags: [anomaly-detection, {method}]
---
# {title}: {values["category"]}

Paper: {paper}

Backbone: `{values["backbone"]}`. {decision}

## How to use it

    uv run {method}-predict IMAGE_OR_FOLDER --model THIS_FOLDER

or from Python:

    from pathlib import Path
    from adcommon.methods import find
    detector = find("{method}")(Path("THIS_FOLDER"))

## Results

{measured}
Each table names its protocol: "standard" numbers compare with other methods', a paper's own do not.

## Training

    {command}

{recipe}

## Licence of the training data

{data_notice}
"""


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / _CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise WrongCheckpoint(_not_a_model(folder)) from None
    except (ValueError, OSError) as error:
        raise WrongCheckpoint(f"cannot read {file}: {download_gone_wrong(file) or error}") from error
    wanted = (*_NEEDED, *_ADDED)
    if not isinstance(config, dict) or (missing := [name for name in wanted if name not in config]):
        lacks = "is not an object" if not isinstance(config, dict) else f"lacks {', '.join(missing)}"
        raise WrongCheckpoint(f"{file} {lacks}; expected the one that a training wrote")
    return config


def _not_a_model(folder: Path) -> str:
    """What is at `folder` instead of a model, and where one may be meant."""
    expected = f"expected a folder with {_CONFIG} and {_TENSORS}, such as RUN/CATEGORY/model"
    if not folder.exists():
        return f"no model at {folder}; {expected}"
    if not folder.is_dir():
        return f"{folder} is a file; {expected}"
    below = sorted(path.parent for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}/{_CONFIG}"))
    hint = f". Did you mean {' or '.join(str(path) for path in below[:3])}?" if below else ""
    return f"{folder} has no {_CONFIG}; {expected}{hint}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _check_plain(value: object, where: str) -> None:
    """Refuse what the restricted unpickler would refuse later, when the run is long gone."""
    if isinstance(value, Tensor) or type(value) in (int, float, bool, str, type(None)):
        return
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _check_plain(entry, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple) and type(value) in (list, tuple):
        for number, entry in enumerate(value):
            _check_plain(entry, f"{where}[{number}]")
    else:
        raise TypeError(
            f"{where} is a {type(value).__qualname__}; a resume state holds tensors, numbers and text"
        )
