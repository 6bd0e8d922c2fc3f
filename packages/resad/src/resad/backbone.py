"""The frozen backbone of a recipe, a timm network or ImageBind's tower, and the features that it gives."""

import math
from dataclasses import dataclass

import torch

from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.models.backbones import FeaturePyramid, normalisation
from adcommon.models.compute import FULL, Compute
from adcommon.models.feature_store import FeatureStore
from resad.network import imagebind
from resad.network.imagebind import ImageBindFeatures
from resad.recipes import Recipe

Backbone = FeaturePyramid | ImageBindFeatures
ENCODE_BATCH = 16
"""Images per pass through the backbone."""


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
    """The frozen backbone on its device; weights are "pretrained", "random", or a file."""
    # Where channels are last, maps lie as rows do.
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    backbone: Backbone
    if recipe.is_imagebind:
        backbone = ImageBindFeatures(weights)
    else:
        backbone = FeaturePyramid(recipe.backbone, weights, strides=recipe.strides)
    return backbone.to(device).to(memory_format=layout)


def make_preprocess(recipe: Recipe) -> Preprocess:
    """How the recipe's images are made: bicubic, with the backbone's own normalisation."""
    mean, std = (imagebind.MEAN, imagebind.STD) if recipe.is_imagebind else normalisation(recipe.backbone)
    return Preprocess(
        image_size=recipe.image_size,
        fit=recipe.fit,
        interpolation="bicubic",
        mean=mean,
        std=std,
        upright=recipe.upright,
        white=recipe.white,
    )


def grids(backbone: Backbone, preprocess: Preprocess) -> Grids:
    """Channels and sides of the maps of preprocessed images."""
    sides = tuple(math.ceil(preprocess.size / stride) for stride in backbone.strides)
    return Grids(tuple(backbone.channels), sides)


def feature_store(
    backbone: Backbone,
    dataset: AnomalyDataset,
    memory_bytes: int,
    workers: int | None = 0,
    compute: Compute = FULL,
) -> FeatureStore:
    """The features of a dataset: computed at once if `memory_bytes` suffice for all, else when asked for.

    The last digits of a convolution may depend on the other images of its batch, so a resumed training must
    compute as an unbroken one: all images in the dataset's order, or, on a CPU, each image alone.
    """
    sizes = grids(backbone, dataset.preprocess)
    values = sum(channels * cells for channels, cells in zip(sizes.channels, sizes.cells, strict=True))
    fits = 4 * values * len(dataset) <= memory_bytes  # float32
    on_cpu = next(backbone.parameters()).device.type == "cpu"
    batch_size = ENCODE_BATCH if fits or not on_cpu else 1
    store = FeatureStore(compute.frozen(backbone), dataset, batch_size, memory_bytes=memory_bytes)
    if fits:
        store.fill(workers)
    return store
