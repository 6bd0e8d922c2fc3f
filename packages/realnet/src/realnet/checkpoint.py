"""A trained RealNet and what is known of it, from a model folder or from a checkpoint of the authors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from adcommon.data.preprocess import Preprocess
from adcommon.models.checkpoint import Trained, load_model, load_strict
from adcommon.models.config import ModelConfig
from adcommon.models.outline import build_to_fit
from adcommon.types.values import Count
from realnet.compat.official import load_checkpoint, save_checkpoint
from realnet.detector import RealNetDetector, make_preprocess
from realnet.evaluate import facts
from realnet.model import RealNet
from realnet.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig[Recipe]):
    """What config.json of a model says."""

    recipe: Recipe
    step: Count = 0
    """Of the training, after which it was saved."""


def load_detector(
    folder: Path,
    *,
    category: str | None = None,
    references: Sequence[Path] = (),
    device: torch.device | str = "cpu",
) -> RealNetDetector:
    """The detector in a `model` folder of a training run, or in a checkpoint of the authors.

    `category` and `references` have no effect: the model knows its category and needs no reference images.
    """
    return load_trained(folder, device).scorer


def load_trained(path: Path, device: torch.device | str = "cpu") -> Trained[RealNetDetector, Recipe]:
    """The same with what is known of it."""

    def ready(model: RealNet, preprocess: Preprocess, recipe: Recipe) -> RealNetDetector:
        """Laid out as in training, so that scores are the same to the last digit."""
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        return RealNetDetector(model.to(device).to(memory_format=layout), preprocess, recipe)

    if path.is_file():
        checkpoint = load_checkpoint(path)
        recipe = checkpoint.recipe
        detector = ready(checkpoint.model(), make_preprocess(recipe), recipe)
        return Trained(detector, recipe, facts(recipe, weights=str(path)))
    config, tensors = load_model(path, Config, "realnet")
    recipe, where = config.recipe, str(path)
    model = build_to_fit(
        lambda: RealNet(recipe, weights=None),
        lambda model: load_strict(model, tensors, where),
        tensors,
        where,
    )
    detector = ready(model, config.preprocess, recipe)
    return Trained(detector, recipe, config.facts, config.categories, config.threshold)


def save_official(path: Path, trained: Trained[RealNetDetector, Recipe], source: Path) -> None:
    """Write a model as the authors' code does.

    Args:
        source: where it was loaded from; a checkpoint of the authors knows its epoch and its best result.
    """
    known = load_checkpoint(source) if source.is_file() else None
    reached = (known.epoch, known.best_metric) if known else (0, 0.0)
    save_checkpoint(path, trained.scorer.model, trained.recipe, *reached)
