"""Model folders, safetensors and JSON, written and read, and modules that fit the tensors of a file."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from adcommon.data.content import data_digest
from adcommon.data.kind import Kind
from adcommon.data.messages import lines
from adcommon.data.preprocess import Preprocess
from adcommon.errors import WrongCheckpoint
from adcommon.io.files import atomic_folder, json_text, plain
from adcommon.io.model_folder import CARD, CONFIG, FORMAT_VERSION, NEEDED, TENSORS, read_config
from adcommon.io.schema import build
from adcommon.io.versions import library_versions, provenance
from adcommon.models.compute import Compute
from adcommon.models.config import ModelConfig
from adcommon.models.devices import in_words
from adcommon.models.outline import is_outline
from adcommon.models.pickles import read_safetensors
from adcommon.results.card import Paper, model_card
from adcommon.types.arithmetic import Arithmetic, Known
from adcommon.types.facts import Facts
from adcommon.types.records import Record
from adcommon.types.threshold import Threshold

logger = logging.getLogger(__name__)

Scorer = TypeVar("Scorer")
Recipe = TypeVar("Recipe")
C = TypeVar("C", bound=ModelConfig[Any])


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
    threshold: Threshold | None = None,
    kinds: Sequence[Kind] = (),
    learned_from: Sequence[Record] = (),
    rows: Sequence[Mapping[str, Any]] = (),
    own: Mapping[str, Any] | None = None,
) -> None:
    """Write what a training leaves: `save_model` with the config and the card that every method has.

    Args:
        recipe: a dataclass with every number of the training.
        categories: that the model is for.
        trained_on: categories it has seen, where they are others.
        threshold: of the image score, if it was calibrated; what it is worth is logged.
        kinds: what the normal images of each category look like, if it is known; an image of another kind is
            not decided upon.
        learned_from: the training images, whose digest is written.
        rows: of the report.
        own: further entries of the method's config.
    """
    if threshold is not None:
        worth = threshold.promise if threshold.supported else f"decides nothing: {threshold.remedy}"
        logger.info("%s: threshold %.6g, %s", "+".join(categories), threshold.value, worth)
    device = next(iter(tensors.values())).device
    made = provenance(method=facts.method, recipe=recipe, device=in_words(device))
    if learned_from:
        made |= {"images": len(learned_from), "data": data_digest(learned_from)}
    config = {
        **facts.known(),
        "category": "+".join(trained_on or categories),
        "categories": list(categories),
        "recipe": plain(recipe),
        "preprocess": plain(preprocess),
        "threshold": plain(threshold),
        "kinds": plain(list(kinds)),
        "computed_in": _computed_in(recipe, tensors),
        **(own or {}),
        "provenance": made,
        "metrics": list(rows),
    }
    save_model(folder, tensors=tensors, config=config, card=model_card(config, paper))


def _computed_in(recipe: object, tensors: Mapping[str, Tensor]) -> Known | None:
    """What the recipe's precision is on the device of the model."""
    device = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
    return Compute.of(recipe, device).precision if isinstance(recipe, Arithmetic) else None


@dataclass(frozen=True, slots=True)
class Trained(Generic[Scorer, Recipe]):
    """A trained method and what is known of it, from a model folder or from a checkpoint of its authors."""

    scorer: Scorer
    """The detector, or, of a few-shot method, what becomes one with reference images."""
    recipe: Recipe
    facts: Facts
    categories: tuple[str, ...] = ()
    """That it was trained for; empty if its file does not say: all of its dataset."""
    threshold: Threshold | None = None
    """Decision threshold of the image score, if one is known."""

    @classmethod
    def of(cls, scorer: Scorer, recipe: Recipe, config: Mapping[str, Any]) -> "Trained[Scorer, Recipe]":
        """With what a model folder's config says."""
        stored = config["threshold"]
        threshold = None if stored is None else build(Threshold, stored, "the model's threshold")
        return cls(scorer, recipe, Facts.of(config), tuple(config["categories"]), threshold)


def load_model(
    folder: Path,
    kind: type[C],
    method: str,
    *,
    older: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> tuple[C, dict[str, Tensor]]:
    """The config and the tensors, on the CPU, of a model folder.

    Args:
        kind: what the method's config says.
        method: that the model must be of.
        older: makes a recipe of today's fields of one that was written when they had other names.

    Raises:
        WrongCheckpoint: no model folder, another method's, a damaged one, or a config whose field, which is
            named, has no place or another type or range.
    """
    values = read_config(folder, method)
    if older is not None and isinstance(recipe := values.get("recipe"), dict):
        values["recipe"] = older(recipe)
    config = build(kind, values, str(folder / CONFIG), error=WrongCheckpoint)
    file = folder / TENSORS
    if not file.is_file():
        raise WrongCheckpoint(f"{folder} has no {TENSORS}; copy the whole folder that the training wrote")
    return config, read_safetensors(file)


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors, which came from `where`, into a module; every key must match in name and shape.

    Of a module on the meta device, which has no memory, they are only compared with it.

    Raises:
        WrongCheckpoint: names the keys that are missing, left over or of another shape; nothing was copied.
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
            f"with another backbone or recipe?{lines(problems)}"
        )
    if not is_outline(module):
        module.load_state_dict(dict(tensors), strict=True)
