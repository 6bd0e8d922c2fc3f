"""The frozen part of InCTRL: a tower for images and, where it is CLIP's, one for text."""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass

import open_clip
import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue
from adcommon.models.backbones import normalisation
from inctrl.clip_weights import resolve_clip
from inctrl.network.clip import MEAN, STD, ClipTower, build_clip, model_config, text_features
from inctrl.network.features import Tower
from inctrl.network.vision import VisionTower
from inctrl.recipes import Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backbone:
    """Everything that no training changes."""

    tower: Tower
    clip: open_clip.CLIP | None
    """None: vision-only, there is no text tower."""

    @property
    def patches(self) -> int:
        """Cells of the map."""
        return self.tower.grid[0] * self.tower.grid[1]

    def text(self, categories: Iterable[str]) -> dict[str, Float[Tensor, "2 embed"]] | None:
        """T of each category, encoded once; None without a text tower."""
        if self.clip is None:
            return None
        return {category: text_features(self.clip, category) for category in dict.fromkeys(categories)}

    def digest(self) -> str:
        """Of every frozen value; a trained model belongs to no other."""
        digest = hashlib.blake2b(digest_size=8)
        module = self.tower if self.clip is None else self.clip
        for name, value in sorted(module.state_dict().items()):
            if name.startswith("logit_"):  # no score reads it, and not every file has it
                continue
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


def make_backbone(recipe: Recipe, weights: str, device: torch.device | str = "cpu") -> Backbone:
    """The frozen networks of a recipe, on a device.

    Args:
        weights: "pretrained", "random", or a file.
    """
    if not recipe.is_clip:
        logger.warning("vision-only: %s has no text tower; the text score is left out", recipe.backbone)
        tower = VisionTower(
            recipe.backbone,
            weights,
            layers=recipe.layers,
            image_size=recipe.image_size,
            out_stride=recipe.out_stride,
        )
        return Backbone(tower.to(device), None)
    config = model_config(recipe.backbone)
    return clip_backbone(
        recipe, build_clip(config, resolve_clip(recipe.backbone, recipe.clip_tag, weights)), device
    )


def clip_backbone(recipe: Recipe, clip: open_clip.CLIP, device: torch.device | str = "cpu") -> Backbone:
    """The same of a CLIP that is there already.

    Raises:
        BadValue: the recipe's images have not the size that this CLIP reads.
    """
    tower = ClipTower(clip.to(device), recipe.backbone, recipe.layers)
    if tower.size != recipe.image_size:
        raise BadValue(
            f"image_size is {recipe.image_size}; '{recipe.backbone}' reads images of {tower.size} pixels"
        )
    return Backbone(tower, clip)


def make_preprocess(recipe: Recipe, image_size: int | None = None) -> Preprocess:
    """How the recipe's images are made, normalised as the backbone's weights want it.

    Args:
        image_size: another side than the recipe's, pixels.
    """
    mean, std = (MEAN, STD) if recipe.is_clip else normalisation(recipe.backbone)
    return Preprocess(
        image_size=image_size or recipe.image_size,
        fit=recipe.fit,
        interpolation="bicubic",
        rgb=recipe.rgb,
        upright=recipe.upright,
        mean=mean,
        std=std,
    )
