"""A PatchCore in a model folder, and what is known of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from adcommon.models.checkpoint import Trained, load_model, load_strict
from adcommon.models.config import ModelConfig
from adcommon.models.outline import build_to_fit
from adcommon.types.values import Positive
from baselines.patchcore.detector import PatchCoreDetector, make_detector
from baselines.patchcore.model import build
from baselines.patchcore.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig[Recipe]):
    """What config.json of a model says."""

    recipe: Recipe
    patches: Positive
    """In the memory."""


def load_detector(
    folder: Path,
    *,
    category: str | None = None,
    references: Sequence[Path] = (),
    device: torch.device | str = "cpu",
) -> PatchCoreDetector:
    """The detector in a `model` folder.

    Args:
        folder: holds config.json and model.safetensors.
        category: has no effect: a model serves one.
        references: has no effect: the model holds patches of its normal images.
        device: where the model goes.
    """
    return load_trained(folder, device).scorer


def load_trained(path: Path, device: torch.device | str = "cpu") -> Trained[PatchCoreDetector, Recipe]:
    """The same with what is known of it."""
    config, tensors = load_model(path, Config, "patchcore")
    recipe, where = config.recipe, str(path)
    model = build_to_fit(
        lambda: build(recipe, weights=None, patches=config.patches),
        lambda model: load_strict(model, tensors, where),
        tensors,
        where,
    )
    detector = make_detector(model.to(device), config.preprocess, recipe)
    return Trained(detector, recipe, config.facts, config.categories, config.threshold)
