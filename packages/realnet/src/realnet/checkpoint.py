"""A trained RealNet with what is known of it, from a model folder or from a checkpoint of the authors."""

from dataclasses import dataclass
from pathlib import Path

import torch

from adcommon.models.checkpoint import load_model
from realnet.compat.official import load_checkpoint, save_checkpoint
from realnet.detector import RealNetDetector, of_checkpoint, of_model
from realnet.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Trained:
    """A detector and the facts that come with it."""

    detector: RealNetDetector
    recipe: Recipe
    categories: tuple[str, ...]
    """That it was trained on; empty if its file does not say: all of its dataset."""
    weights: str
    """Where its backbone's weights came from."""
    threshold: float | None
    """Decision threshold of the image score."""
    epoch: int
    """Epochs done; 0 if its file does not say."""
    best_metric: float
    """Mean of its image and pixel AUROC on the test set; 0 if its file does not say."""

    def save_official(self, path: Path) -> None:
        """Write the model as the authors' code does."""
        save_checkpoint(
            path, self.detector.model, self.recipe, epoch=self.epoch, best_metric=self.best_metric
        )


def load_any(path: Path, device: torch.device | str = "cpu") -> Trained:
    """Load a `model` folder of a training run, or a checkpoint of the authors."""
    if path.is_file():
        checkpoint = load_checkpoint(path)
        detector = of_checkpoint(checkpoint, device)
        facts = (checkpoint.epoch, checkpoint.best_metric)
        return Trained(detector, checkpoint.recipe, (), str(path), None, *facts)
    config, tensors = load_model(path, method="realnet")
    return Trained(
        of_model(path, config, tensors, device),
        Recipe.from_json(config["recipe"]),
        tuple(config["categories"]),
        config["weights"],
        config["threshold"] and config["threshold"]["value"],
        0,
        0.0,
    )
