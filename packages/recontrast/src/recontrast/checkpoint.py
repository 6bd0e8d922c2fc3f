"""A trained ReContrast and what is known of it, from the model folder that a training left."""

from collections.abc import Sequence
from pathlib import Path

import torch

from adcommon.data.preprocess import Preprocess
from adcommon.models.checkpoint import Trained, load_model, load_strict
from adcommon.training.recipes import from_json
from recontrast.detector import ReContrastDetector, make_detector
from recontrast.model import build
from recontrast.recipes import Recipe


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
    config, tensors = load_model(folder, method="recontrast")
    recipe = from_json(Recipe, config["recipe"])
    model = build(recipe, weights=None)
    load_strict(model, tensors, where=str(folder))
    if recipe.channels_last:  # as in training, so that scores are the same to the last digit
        model = model.to(memory_format=torch.channels_last)
    detector = make_detector(model.to(device), Preprocess(**config["preprocess"]), recipe)
    return Trained.of(detector, recipe, config)
