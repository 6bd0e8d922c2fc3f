"""A trained UniAD with what is known of it, from a model folder or from a checkpoint of the authors."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from adcommon.models.checkpoint import load_model
from uniad.compat.official import load_checkpoint, save_checkpoint
from uniad.detector import UniADDetector, load_detector
from uniad.recipes import CIFAR10_SPLITS, Recipe


@dataclass(frozen=True, slots=True)
class Trained:
    """A detector and the facts that come with it."""

    detector: UniADDetector
    recipe: Recipe
    categories: tuple[str, ...]
    """That it was trained on; empty if its file does not say: all of its dataset."""
    weights: str
    """Where its backbone's weights came from."""
    threshold: float | None
    """Decision threshold of the image score."""
    epoch: int
    """Epochs done; 0 if its file does not say."""
    rest: dict[str, Tensor]
    """Entries of the authors' file that the model has no place for."""

    def save_official(self, path: Path) -> None:
        """Write the model as the authors' code does."""
        save_checkpoint(path, self.detector.model, self.recipe, epoch=self.epoch, rest=self.rest)


def load_any(path: Path, device: torch.device | str = "cpu") -> Trained:
    """Load a `model` folder of a training run, or a checkpoint of the authors."""
    detector = load_detector(path, device=device)
    if path.is_file():
        checkpoint = load_checkpoint(path)
        recipe = checkpoint.recipe
        categories = CIFAR10_SPLITS if recipe.dataset == "cifar10" else ()
        return Trained(detector, recipe, categories, str(path), None, checkpoint.epoch, checkpoint.state)
    config, _ = load_model(path, method="uniad")
    threshold = config["threshold"] and config["threshold"]["value"]
    return Trained(
        detector,
        Recipe.from_json(config["recipe"]),
        tuple(config["categories"]),
        config["weights"],
        threshold,
        0,
        {},
    )
