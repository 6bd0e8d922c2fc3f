"""A trained UniAD and what is known of it, from a model folder or from a checkpoint of the authors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from adcommon.models.checkpoint import Trained, load_model, load_strict
from adcommon.models.config import ModelConfig
from adcommon.models.outline import build_to_fit
from uniad.compat.official import fill, load_checkpoint, save_checkpoint
from uniad.detector import UniADDetector, make_detector, make_preprocess
from uniad.evaluate import facts
from uniad.model import UniAD, build
from uniad.recipes import CIFAR10_SPLITS, Recipe


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig[Recipe]):
    """What config.json of a model says."""

    recipe: Recipe


def load_detector(
    folder: Path,
    *,
    category: str | None = None,
    references: Sequence[Path] = (),
    device: torch.device | str = "cpu",
) -> UniADDetector:
    """The detector in a `model` folder of a training run, or in a checkpoint of the authors.

    Args:
        folder: holds config.json and model.safetensors; or a file such as ckpt.pth.tar.
        category: has no effect: one model serves all its categories.
        references: has no effect: UniAD needs no reference images.
        device: where the model goes.
    """
    return load_trained(folder, device).scorer


def load_trained(path: Path, device: torch.device | str = "cpu") -> Trained[UniADDetector, Recipe]:
    """The same with what is known of it."""
    if path.is_file():
        checkpoint = load_checkpoint(path)
        recipe = checkpoint.recipe
        detector = make_detector(checkpoint.model().to(device), make_preprocess(recipe), recipe)
        categories = CIFAR10_SPLITS if recipe.dataset == "cifar10" else ()
        return Trained(detector, recipe, facts(recipe, str(path)), categories)
    config, tensors = load_model(path, Config, "uniad")
    recipe, where = config.recipe, str(path)
    model = build_to_fit(
        lambda: build(recipe, weights=None), lambda model: load_strict(model, tensors, where), tensors, where
    )
    detector = make_detector(model.to(device), config.preprocess, recipe)
    return Trained(detector, recipe, config.facts, config.categories, config.threshold)


def start_from(model: UniAD, path: Path) -> None:
    """Fill a model from a model folder, or from a checkpoint of the authors; every entry must fit."""
    if path.is_file():
        fill(model, load_checkpoint(path).state, model.backbone.tag, where=str(path))
    else:
        load_strict(model, load_model(path, Config, "uniad")[1], where=str(path))


def save_official(path: Path, trained: Trained[UniADDetector, Recipe], source: Path) -> None:
    """Write a model as the authors' code does.

    Args:
        source: what it was loaded from; entries of the authors' file that the model has no place for stay.
    """
    before = load_checkpoint(source) if source.is_file() else None
    save_checkpoint(
        path,
        trained.scorer.model,
        trained.recipe,
        epoch=before.epoch if before else 0,
        rest=before.state if before else None,
    )
