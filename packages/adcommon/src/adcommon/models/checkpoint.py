"""Tensors of a model folder, and the authors' own files.

Nothing here executes code from a file: models are safetensors and JSON, everything else is read by torch's
restricted unpickler.
"""

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy._core.multiarray import scalar
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adcommon.data.preprocess import Preprocess
from adcommon.errors import WrongCheckpoint
from adcommon.io.files import atomic_folder, download_gone_wrong, json_text, plain
from adcommon.io.model_folder import CARD, CONFIG, FORMAT_VERSION, NEEDED, TENSORS, read_config
from adcommon.io.versions import library_versions
from adcommon.results.card import Paper, model_card
from adcommon.types.facts import Facts

Scorer = TypeVar("Scorer")
Recipe = TypeVar("Recipe")

DAMAGED = (
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
    if missing := [name for name in NEEDED if name not in config]:
        raise ValueError(f"the model's config lacks {', '.join(missing)}")
    versions = library_versions(config["method"])
    full = {"format_version": FORMAT_VERSION, **config, "versions": versions}
    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with atomic_folder(folder) as new:
        save_file(own, new / TENSORS, metadata={"format": "pt"})
        (new / CONFIG).write_text(json_text(full), encoding="utf-8")
        (new / CARD).write_text(card, encoding="utf-8")


def save_trained(
    folder: Path,
    tensors: Mapping[str, Tensor],
    paper: Paper,
    facts: Facts,
    *,
    recipe: object,
    preprocess: Preprocess,
    categories: Sequence[str],
    trained_on: Sequence[str] = (),
    threshold: object | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    own: Mapping[str, Any] | None = None,
) -> None:
    """Write what a training leaves: `save_model` with the config and the card that every method has.

    Args:
        recipe: a dataclass with every number of the training.
        categories: that the model is for.
        trained_on: categories it has seen, where they are others.
        threshold: a `Threshold`, if normal images were held out for it.
        rows: of the report.
        own: further entries of the method's config.
    """
    config = {
        **facts.known(),
        "category": "+".join(trained_on or categories),
        "categories": list(categories),
        "recipe": plain(recipe),
        "preprocess": plain(preprocess),
        "threshold": plain(threshold),
        **(own or {}),
        "metrics": list(rows),
    }
    save_model(folder, tensors=tensors, config=config, card=model_card(config, paper))


@dataclass(frozen=True, slots=True)
class Trained(Generic[Scorer, Recipe]):
    """A trained method and what is known of it, from a model folder or from a checkpoint of its authors."""

    scorer: Scorer
    """The detector, or, of a few-shot method, what becomes one with reference images."""
    recipe: Recipe
    facts: Facts
    categories: tuple[str, ...] = ()
    """That it was trained for; empty if its file does not say: all of its dataset."""
    threshold: float | None = None
    """Decision threshold of the image score."""

    @classmethod
    def of(cls, scorer: Scorer, recipe: Recipe, config: Mapping[str, Any]) -> "Trained[Scorer, Recipe]":
        """With what a model folder's config says."""
        threshold = config["threshold"] and config["threshold"]["value"]
        return cls(scorer, recipe, Facts.of(config), tuple(config["categories"]), threshold)


def load_model(folder: Path, method: str | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config, see `read_config`, and the tensors, on the CPU, of a model folder.

    Raises:
        WrongCheckpoint: also if the tensors are missing or damaged.
    """
    config = read_config(folder, method)
    file = folder / TENSORS
    if not file.is_file():
        raise WrongCheckpoint(f"{folder} has no {TENSORS}; copy the whole folder that the training wrote")
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


SafeClass = Callable[..., object] | tuple[Callable[..., object], str]
"""A class, or a stand-in for one that is not installed and its name: `(dict, "yacs.config.CfgNode")`."""
EASYDICT_AND_SCALARS: tuple[SafeClass, ...] = (
    (OrderedDict, "easydict.EasyDict"),
    (scalar, "numpy.core.multiarray.scalar"),  # NumPy 1 wrote this name, NumPy 2 the next
    (scalar, "numpy._core.multiarray.scalar"),
    *(np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType),
)
"""What several authors' files hold besides tensors: options as EasyDict, measurements as NumPy's scalars."""


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
    except (pickle.UnpicklingError, *DAMAGED) as error:
        if refused := re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)", str(error)):
            reason = (
                f"it holds an object of class {refused.group(1)}, and building it could run code. If you "
                "trust the file, load it with torch.load(..., weights_only=False) and save its tensors alone"
            )
        else:
            reason = download_gone_wrong(path) or first_line(error)
        raise WrongCheckpoint(f"cannot read the checkpoint {path}: {reason}") from error


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return str(error).strip().split("\n")[0] or type(error).__name__
