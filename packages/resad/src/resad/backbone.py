"""The frozen backbone of a recipe: a timm network or ImageBind's image tower, and how images reach it."""

import math
from dataclasses import dataclass

import torch

from adcommon.data.preprocess import Preprocess
from adcommon.models.backbones import FeaturePyramid, normalisation
from resad.network import imagebind
from resad.network.imagebind import ImageBindFeatures
from resad.recipes import Recipe

Backbone = FeaturePyramid | ImageBindFeatures


@dataclass(frozen=True, slots=True)
class Grids:
    """What a recipe's feature maps look like."""

    channels: tuple[int, ...]
    sides: tuple[int, ...]
    """Cells along one side of each level's square map."""

    @property
    def cells(self) -> tuple[int, ...]:
        """Positions of each level's map: rows per reference image."""
        return tuple(side * side for side in self.sides)


def build_backbone(recipe: Recipe, weights: str, device: torch.device | str = "cpu") -> Backbone:
    """The frozen backbone on its device.

    Args:
        weights: "pretrained", "random", or a file.
    """
    backbone: Backbone
    if recipe.is_imagebind:
        backbone = ImageBindFeatures(weights)
    else:
        backbone = FeaturePyramid(recipe.backbone, weights, strides=recipe.strides)
    return backbone.to(device)


def make_preprocess(recipe: Recipe) -> Preprocess:
    """Shorter side to `image_size`, bicubic, centre crop, the backbone's own normalisation."""
    mean, std = (imagebind.MEAN, imagebind.STD) if recipe.is_imagebind else normalisation(recipe.backbone)
    return Preprocess(
        image_size=recipe.image_size,
        fit="short_side",
        interpolation="bicubic",
        mean=mean,
        std=std,
        upright=recipe.upright,
    )


def grids(backbone: Backbone, preprocess: Preprocess) -> Grids:
    """Channels and sides of the maps of preprocessed images."""
    sides = tuple(math.ceil(preprocess.size / stride) for stride in backbone.strides)
    return Grids(tuple(backbone.channels), sides)
