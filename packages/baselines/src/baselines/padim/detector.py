"""From images to anomaly maps and image scores."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.data.preprocess import Preprocess
from adcommon.models.compute import FULL, Compute
from adcommon.types.prediction import Prediction
from baselines.padim.model import PaDiM
from baselines.padim.recipes import Recipe
from baselines.scores import image_scores, smooth


class PaDiMDetector:
    """A PaDiM; maps are distances in standard deviations, smoothed; higher is more anomalous."""

    def __init__(
        self,
        model: PaDiM,
        preprocess: Preprocess,
        *,
        blur: float = 4.0,
        image_score: Literal["max", "top1"] = "max",
        compute: Compute = FULL,
    ) -> None:
        """Put the model in evaluation mode and bind it to its preprocessing.

        Args:
            model: stays where it is; `score` takes images from anywhere.
            preprocess: how its images were made.
            blur: deviation of the Gaussian that smooths the map, pixels.
            image_score: maximum of the map, or mean of its largest 1 %.
            compute: how the frozen network is computed; distances are in float32.
        """
        self.model = model.eval()
        self.device = model.mean.device
        self.preprocess = preprocess
        self.blur = blur
        self.image_score = image_score
        self.compute = compute

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "batch 3 height width"]) -> Prediction:
        """Anomaly maps at the images' size, and one score per image; both on the model's device."""
        return self.finish(self.compute(self.model, images.to(self.device)), images)

    def finish(
        self,
        distances: Float[Tensor, "batch grid_height grid_width"],
        images: Float[Tensor, "batch 3 height width"],
    ) -> Prediction:
        """Maps and scores from the distances of the images' patches."""
        maps = smooth(distances, (images.shape[2], images.shape[3]), self.blur)
        return Prediction(image_scores(maps, self.image_score), maps)


def make_detector(model: PaDiM, preprocess: Preprocess, recipe: Recipe) -> PaDiMDetector:
    """The detector of a model that was made by a recipe."""
    compute = Compute.of(recipe, model.mean.device)
    return PaDiMDetector(model, preprocess, blur=recipe.blur, image_score=recipe.image_score, compute=compute)
