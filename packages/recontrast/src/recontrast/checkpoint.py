"""A trained ReContrast and what is known of it, from the model folder that a training left."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from adcommon.models.checkpoint import Trained, load_model, load_strict
from adcommon.models.config import ModelConfig
from adcommon.models.outline import build_to_fit
from recontrast.detector import ReContrastDetector, make_detector
from recontrast.model import build
from recontrast.recipes import Recipe


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
) -> ReContrastDetector:
    """The detector that a training run left in its `model` folder.

    Args:
        folder: holds config.json and model.safetensors.
        category: has no effect: the model knows its category.
        references: has no effect: ReContrast needs no reference images.
        device: where the model goes.
    """
    return load_trained(folder, device).scorer


def load_trained(folder: Path, device: torch.device | str = "cpu") -> Trained[ReContrastDetector, Recipe]:
    """The same with what is known of it."""
    config, tensors = load_model(folder, Config, "recontrast")
    recipe, where = config.recipe, str(folder)
    model = build_to_fit(
        lambda: build(recipe, weights=None), lambda model: load_strict(model, tensors, where), tensors, where
    )
    if recipe.channels_last:  # as in training, so that scores are the same to the last digit
        model = model.to(memory_format=torch.channels_last)
    detector = make_detector(model.to(device), config.preprocess, recipe)
    return Trained(detector, recipe, config.facts, config.categories, config.threshold)
