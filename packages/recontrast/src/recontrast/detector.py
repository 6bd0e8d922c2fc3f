"""From images to anomaly maps and image scores, and back from a model folder.

Two ways to combine the six distance maps are in use: the one-class experiments *sum* them and smooth with
a Gaussian of 4 pixels; the multi-class ones take their *mean* and smooth with a 5x5 kernel, zero outside.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.data.preprocess import Preprocess
from adcommon.models.anomaly_maps import (
    gaussian_blur,
    kernel_blur,
    max_score,
    mean_score,
    top_fraction_score,
    upsample,
)
from adcommon.models.backbones import normalisation
from adcommon.models.compute import FULL, Compute
from adcommon.types.prediction import Prediction
from recontrast.model import ReContrast, distance_maps
from recontrast.recipes import Recipe

BLUR_SIGMA_PX = 4.0
TOP_FRACTION = 0.01


class ReContrastDetector:
    """A trained ReContrast; image scores and maps have no fixed range, higher is more anomalous."""

    def __init__(
        self,
        model: ReContrast,
        preprocess: Preprocess,
        *,
        map_protocol: Literal["sum", "mean"] = "sum",
        image_score: Literal["max", "top1", "mean"] = "max",
        compute: Compute = FULL,
    ) -> None:
        """Put the model in evaluation mode and bind it to its preprocessing.

        Args:
            model: stays where it is; `score` takes images from anywhere.
            preprocess: how its training images were made.
            map_protocol: "sum" or "mean" of the six maps, as the module's docstring says.
            image_score: maximum, mean of the largest 1 %, or mean of the map.
            compute: how the model is computed; the maps are in float32 at least.
        """
        self.model = model.eval()
        self.device = next(model.parameters()).device
        self.preprocess = preprocess
        self.map_protocol = map_protocol
        self.image_score = image_score
        self.compute = compute

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "batch 3 height width"]) -> Prediction:
        """Anomaly maps at the images' size, and one score per image; both on the model's device."""
        distances = distance_maps(self.compute(self.model, images.to(self.device)))
        size = (images.shape[2], images.shape[3])
        maps = combine(distances, size, self.map_protocol)
        scores = {
            "max": max_score,
            "mean": mean_score,
            "top1": lambda maps: top_fraction_score(maps, TOP_FRACTION),
        }[self.image_score](maps)
        return Prediction(scores.float(), maps.float())


def combine(
    distances: Sequence[Float[Tensor, "batch _ _"]],
    size: tuple[int, int],
    protocol: Literal["sum", "mean"],
) -> Float[Tensor, "batch height width"]:
    """One smoothed map from the six cosine distances, upsampled to `size` (corners aligned)."""
    upsampled = [upsample(distance, size, align_corners=True) for distance in distances]
    if protocol == "mean":
        return kernel_blur(torch.stack(upsampled).mean(dim=0), size=5, sigma_px=BLUR_SIGMA_PX)
    # Faithful: the reference adds in float64; Apple's GPUs have none.
    wide = torch.float32 if upsampled[0].device.type == "mps" else torch.float64
    total = torch.stack([level.to(wide) for level in upsampled]).sum(dim=0)
    return gaussian_blur(total, BLUR_SIGMA_PX)


def make_detector(model: ReContrast, preprocess: Preprocess, recipe: Recipe) -> ReContrastDetector:
    """A model as it stands, put in evaluation mode, that scores as its recipe says."""
    return ReContrastDetector(
        model,
        preprocess,
        map_protocol=recipe.map_protocol,
        image_score=recipe.image_score,
        compute=Compute.of(recipe, next(model.parameters()).device),
    )


def make_preprocess(recipe: Recipe) -> Preprocess:
    """How training and test images are made: resize, crop, the backbone's own normalisation."""
    mean, std = normalisation(recipe.backbone)
    return Preprocess(
        image_size=recipe.image_size,
        crop_size=recipe.crop_size,
        mean=mean,
        std=std,
        mask_rule=recipe.mask_rule,
        upright=recipe.upright,
        white=recipe.white,
        tile=recipe.tile,
        overlap=recipe.overlap,
    )
