"""From images to anomaly maps and image scores."""

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.data.preprocess import Preprocess
from adcommon.models.anomaly_maps import top_fraction_score
from adcommon.models.compute import Compute
from adcommon.types.prediction import Prediction
from baselines.patchcore.model import PatchCore
from baselines.patchcore.recipes import Recipe
from baselines.scores import TOP_FRACTION, image_scores, smooth


class PatchCoreDetector:
    """A PatchCore; maps are distances to the memory, smoothed; higher is more anomalous."""

    def __init__(self, model: PatchCore, preprocess: Preprocess, recipe: Recipe) -> None:
        """Put the model in evaluation mode and bind it to its preprocessing.

        Args:
            model: stays where it is; `score` takes images from anywhere.
            preprocess: how its images were made.
            recipe: says how maps become scores, and how the frozen network is computed.
        """
        self.model = model.eval()
        self.device = model.memory.device
        self.preprocess = preprocess
        self.recipe = recipe
        self.compute = Compute.of(recipe, self.device)

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "batch 3 height width"]) -> Prediction:
        """Anomaly maps at the images' size, and one score per image; both on the model's device."""
        distances, patches = self.compute(self.model, images.to(self.device))
        maps = smooth(distances, (images.shape[2], images.shape[3]), self.recipe.blur)
        match self.recipe.image_score:
            case "reweighted":
                scores = self.model.reweighted(distances, patches, self.recipe.neighbours)
            case "patches1":
                scores = top_fraction_score(distances, TOP_FRACTION)
            case how:
                scores = image_scores(maps, how)
        return Prediction(scores, maps)


def make_detector(model: PatchCore, preprocess: Preprocess, recipe: Recipe) -> PatchCoreDetector:
    """The detector of a model that was made by a recipe."""
    return PatchCoreDetector(model, preprocess, recipe)
