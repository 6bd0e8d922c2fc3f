"""From images to anomaly maps and image scores."""

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.data.preprocess import Preprocess
from adcommon.models.anomaly_maps import pooled_max_score
from adcommon.models.backbones import normalisation
from adcommon.models.compute import Compute, in_full
from adcommon.types.prediction import Prediction
from realnet.model import RealNet
from realnet.recipes import Recipe


class RealNetDetector:
    """A trained RealNet; maps are probabilities that a pixel is anomalous, image scores means of them."""

    def __init__(self, model: RealNet, preprocess: Preprocess, recipe: Recipe) -> None:
        """Put the model in evaluation mode, where it stands; `preprocess` made its training images."""
        self.model = model.eval()
        self.device = next(model.parameters()).device
        self.preprocess = preprocess
        self.pool = recipe.window
        self.compute = Compute.of(recipe, self.device)
        self._trainable = self.model.trainable()

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "batch 3 height width"]) -> Prediction:
        """Anomaly maps at the images' size, and one score per image; both on the model's device."""
        # As in training: residuals are ranked, and bf16 features moved scores by a third of their range.
        features = self.compute.not_half(self.model.features, images.to(self.device))
        logits = in_full(self.compute(self._trainable, features).logits)
        maps = logits.softmax(dim=1)[:, 1]
        return Prediction(pooled_max_score(maps, self.pool), maps)


def make_preprocess(recipe: Recipe) -> Preprocess:
    """How the recipe's images are made, normalised as the backbone's weights want it."""
    mean, std = normalisation(recipe.backbone)
    return Preprocess(
        image_size=recipe.image_size,
        upright=recipe.upright,
        white=recipe.white,
        tile=recipe.tile,
        overlap=recipe.overlap,
        mean=mean,
        std=std,
    )
