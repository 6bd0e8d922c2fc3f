"""The two training losses: of features and of images, for the picture decoder."""

from jaxtyping import Float
from torch import Tensor

from uniad.model import Outputs


def feature_mse(outputs: Outputs) -> Float[Tensor, ""]:
    """Mean over all elements of the squared difference between features and reconstruction."""
    return (outputs.rebuilt - outputs.features).square().mean()


def image_mse(
    images: Float[Tensor, "batch 3 height width"], rebuilt: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, ""]:
    """Mean over all elements of the squared difference between normalised images and their reconstruction."""
    return (rebuilt - images).square().mean()
