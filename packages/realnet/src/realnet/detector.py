"""From images to anomaly maps and image scores, and back from a model folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.data.preprocess import Preprocess
from adcommon.models.anomaly_maps import pooled_max_score
from adcommon.models.backbones import normalisation
from adcommon.models.checkpoint import load_model, load_strict
from adcommon.types.prediction import Prediction
from realnet.compat.official import Checkpoint, load_checkpoint
from realnet.model import RealNet, build
from realnet.recipes import Recipe


class RealNetDetector:
    """A trained RealNet; maps are probabilities that a pixel is anomalous, image scores means of them."""

    def __init__(self, model: RealNet, preprocess: Preprocess, *, pool: int = 16) -> None:
        """Put the model in evaluation mode and bind it to its preprocessing.

        Args:
            model: stays where it is; `score` takes images from anywhere.
            preprocess: how its training images were made.
            pool: the image score is the highest mean of a square of this side, pixels.
        """
        self.model = model.eval()
        self.device = next(model.parameters()).device
        self.preprocess = preprocess
        self.pool = pool

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "batch 3 height width"]) -> Prediction:
        """Anomaly maps at the images' size, and one score per image; both on the model's device."""
        maps = self.model(images.to(self.device)).logits.softmax(dim=1)[:, 1]
        return Prediction(pooled_max_score(maps, self.pool), maps)


def make_preprocess(recipe: Recipe) -> Preprocess:
    """How the recipe's images are made, normalised as the backbone's weights want it."""
    mean, std = normalisation(recipe.backbone)
    return Preprocess(image_size=recipe.image_size, upright=recipe.upright, mean=mean, std=std)


def load_detector(
    folder: Path,
    *,
    category: str | None = None,
    references: Sequence[Path] = (),
    device: torch.device | str = "cpu",
) -> RealNetDetector:
    """The detector in a `model` folder of a training run, or in a checkpoint of the authors.

    Args:
        folder: holds config.json and model.safetensors; or a file such as ckpt_best.pth.tar.
        category: has no effect: the model knows its category.
        references: has no effect: RealNet needs no reference images.
        device: where the model goes.
    """
    if folder.is_file():
        return of_checkpoint(load_checkpoint(folder), device)
    return of_model(folder, *load_model(folder, method="realnet"), device)


def of_checkpoint(checkpoint: Checkpoint, device: torch.device | str) -> RealNetDetector:
    """The detector in a checkpoint of the authors."""
    recipe = checkpoint.recipe
    return make_detector(checkpoint.model(), make_preprocess(recipe), recipe, device)


def of_model(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device | str
) -> RealNetDetector:
    """The detector of what `load_model` read from a folder."""
    recipe = Recipe.from_json(config["recipe"])
    model = build(recipe, weights=None)
    load_strict(model, tensors, where=str(folder))
    return make_detector(model, Preprocess(**config["preprocess"]), recipe, device)


def make_detector(
    model: RealNet, preprocess: Preprocess, recipe: Recipe, device: torch.device | str
) -> RealNetDetector:
    """The detector of a model, laid out as in training, so that scores are the same to the last digit."""
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    return RealNetDetector(model.to(device).to(memory_format=layout), preprocess, pool=recipe.pool)
