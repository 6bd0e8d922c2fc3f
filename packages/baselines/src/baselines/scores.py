"""From distances of patches to a map of the image, and to its score."""

from jaxtyping import Float
from torch import Tensor

from adcommon.models.anomaly_maps import gaussian_blur, max_score, top_fraction_score, upsample

TOP_FRACTION = 0.01


def smooth(
    distances: Float[Tensor, "batch grid_height grid_width"], size: tuple[int, int], blur: float
) -> Float[Tensor, "batch height width"]:
    """Bilinear to `size` (height, width), then a Gaussian of `blur` pixels; 0: none."""
    maps = upsample(distances, size, align_corners=False)
    return gaussian_blur(maps, blur) if blur else maps


def image_scores(maps: Float[Tensor, "batch height width"], how: str) -> Float[Tensor, " batch"]:
    """The maximum of each map ("max"), or the mean of its largest 1 % ("top1")."""
    return max_score(maps) if how == "max" else top_fraction_score(maps, TOP_FRACTION)
