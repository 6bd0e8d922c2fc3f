"""From images, or features kept of them, to anomaly maps and image scores."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.data.preprocess import Preprocess
from adcommon.models.anomaly_maps import mean_score, pooled_max_score, std_score, upsample
from adcommon.models.backbones import normalisation
from adcommon.models.compute import FULL, Compute
from adcommon.types.prediction import Prediction
from uniad.model import Outputs, UniAD, distance
from uniad.recipes import Recipe


class UniADDetector:
    """A trained UniAD; image scores and maps have no fixed range, higher is more anomalous."""

    def __init__(
        self,
        model: UniAD,
        preprocess: Preprocess,
        *,
        image_score: Literal["max", "mean", "std"] = "max",
        pool: int | tuple[int, ...] = 16,
        compute: Compute = FULL,
    ) -> None:
        """Put the model in evaluation mode and bind it to its preprocessing.

        Args:
            model: stays where it is; `score` takes images from anywhere.
            preprocess: how its training images were made.
            image_score: how a map becomes a score, see `image_scores`.
            pool: side of the windows of "max", pixels, or their height and width.
            compute: how backbone and reconstruction are computed; distances are in float32.
        """
        self.model = model.eval()
        self.device = next(model.parameters()).device
        self.preprocess = preprocess
        self.image_score = image_score
        self.pool = pool
        self.compute = compute

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "batch 3 height width"]) -> Prediction:
        """Anomaly maps at the images' size, and one score per image; both on the model's device.

        The other image scores of the paper are in `extra_scores`.
        """
        # Whitening magnifies the rounding of a backbone in half precision, by 200 in the quick start.
        compute = self.compute if self.model.whitening is None else self.compute.not_half
        (aligned,) = compute(self.model.backbone, images.to(self.device))
        return self._predict(self.model.prepared(aligned), (images.shape[2], images.shape[3]))

    @torch.inference_mode()
    def score_features(
        self, levels: Sequence[Float[Tensor, "batch channels grid_height grid_width"]]
    ) -> Prediction:
        """The same from what a `FeatureStore` of the backbone holds of preprocessed images."""
        (features,) = levels
        size = (self.preprocess.size, self.preprocess.size)
        return self._predict(self.model.prepared(features.to(self.device)), size)

    def _predict(
        self, features: Float[Tensor, "batch channels grid_height grid_width"], size: tuple[int, int]
    ) -> Prediction:
        rebuilt = self.compute(self.model.reconstruction, features)
        maps = upsample(distance(Outputs(features, rebuilt)), size, align_corners=True)
        scores = {name: reduce(maps) for name, reduce in image_scores(self.pool).items()}
        return Prediction(scores[self.image_score], maps, scores)


def image_scores(
    pool: int | tuple[int, ...] = 16,
) -> dict[str, Callable[[Float[Tensor, "batch height width"]], Float[Tensor, " batch"]]]:
    """The three ways of the paper to make an image score of a map.

    "max", the paper's for MVTec AD: highest mean of a window, see `pool`; "mean", for CIFAR-10; "std".
    """
    return {
        "max": lambda maps: pooled_max_score(maps, pool),
        "mean": mean_score,
        "std": std_score,
    }


def make_preprocess(recipe: Recipe) -> Preprocess:
    """How the recipe's images are made, normalised as the backbone's weights want it."""
    mean, std = normalisation(recipe.backbone)
    return Preprocess(
        image_size=recipe.image_size,
        interpolation=recipe.interpolation,
        upright=recipe.upright,
        white=recipe.white,
        tile=recipe.tile,
        overlap=recipe.overlap,
        mean=mean,
        std=std,
    )


def make_detector(model: UniAD, preprocess: Preprocess, recipe: Recipe) -> UniADDetector:
    """The detector of a model that was trained by a recipe."""
    compute = Compute.of(recipe, next(model.parameters()).device)
    return UniADDetector(
        model, preprocess, image_score=recipe.image_score, pool=recipe.window, compute=compute
    )
