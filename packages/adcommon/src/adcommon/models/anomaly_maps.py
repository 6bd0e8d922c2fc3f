"""From distances to an anomaly map and an image score: upsample, smooth and pool, on the map's device."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from adcommon.types.prediction import Prediction


def cosine_distance(
    a: Float[Tensor, "batch channels height width"], b: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch height width"]:
    """One minus the cosine similarity over channels: 0 for parallel features, 2 for opposite ones."""
    return 1 - F.cosine_similarity(a, b, dim=1)


def upsample(
    maps: Float[Tensor, "batch low_height low_width"], size: int | tuple[int, int], align_corners: bool
) -> Float[Tensor, "batch height width"]:
    """Bilinear interpolation to `size` (a side, or height and width), in pixels.

    Args:
        align_corners: True puts the corner pixels' centres on each other, as several papers do; False
            (Pillow's and OpenCV's rule) scales the pixel grid.
    """
    height_width = (size, size) if isinstance(size, int) else size
    return F.interpolate(maps[:, None], height_width, mode="bilinear", align_corners=align_corners)[:, 0]


def gaussian_blur(
    maps: Float[Tensor, "batch height width"], sigma_px: float
) -> Float[Tensor, "batch height width"]:
    """Gaussian smoothing of each map; equals SciPy's `gaussian_filter` with its defaults: radius 4 sigma.

    The border is mirrored with the edge pixel repeated (c b a | a b c | c b a), as often as the radius needs.
    """
    radius = int(4 * sigma_px + 0.5)
    kernel = _gaussian(radius, sigma_px)
    height, width = maps.shape[1:]
    padded = maps[:, _mirrored(height, radius, maps.device)][:, :, _mirrored(width, radius, maps.device)]
    return _separable(padded, kernel)


def kernel_blur(
    maps: Float[Tensor, "batch height width"], size: int = 5, sigma_px: float = 4.0
) -> Float[Tensor, "batch height width"]:
    """Smoothing with a `size` x `size` Gaussian kernel of sum 1 and zeros beyond the border.

    With the defaults this is nearly a flat box, and scores at the border fall: the multi-class evaluation of
    ReContrast (arXiv 2306.02602).
    """
    radius = size // 2
    return _separable(F.pad(maps, (radius,) * 4), _gaussian(radius, sigma_px))


def max_score(maps: Float[Tensor, "batch height width"]) -> Float[Tensor, " batch"]:
    """Image score: the highest value of the map."""
    return maps.amax(dim=(1, 2))


def mean_score(maps: Float[Tensor, "batch height width"]) -> Float[Tensor, " batch"]:
    """Image score: the mean of the map."""
    return maps.mean(dim=(1, 2))


def std_score(maps: Float[Tensor, "batch height width"]) -> Float[Tensor, " batch"]:
    """Image score: the population standard deviation of the map."""
    return maps.std(dim=(1, 2), correction=0)


def top_fraction_score(maps: Float[Tensor, "batch height width"], fraction: float) -> Float[Tensor, " batch"]:
    """Image score: the mean of the int(fraction x height x width) highest values, of one value at least."""
    pixels = maps.flatten(1)
    return pixels.topk(max(1, int(fraction * pixels.shape[1])), dim=1).values.mean(dim=1)


def pooled_max_score(
    maps: Float[Tensor, "batch height width"], window: int | list[int] | tuple[int, ...] = 16
) -> Float[Tensor, " batch"]:
    """Image score: the highest mean of a window that lies inside the map; its side, or height and width."""
    height, width = (window, window) if isinstance(window, int) else window
    of_columns = F.avg_pool2d(maps[:, None], (height, 1), stride=1)
    return F.avg_pool2d(of_columns, (1, width), stride=1).amax(dim=(1, 2, 3))


def _gaussian(radius: int, sigma_px: float) -> list[float]:
    """Weights of the offsets -radius..radius, of sum 1."""
    weights = [math.exp(-0.5 * (offset / sigma_px) ** 2) for offset in range(-radius, radius + 1)]
    return [weight / sum(weights) for weight in weights]


def _mirrored(length: int, radius: int, device: torch.device) -> Int64[Tensor, " padded"]:
    """Indices of the positions -radius..length+radius-1 of a line mirrored at both ends, edge repeated."""
    position = torch.arange(-radius, length + radius, device=device) % (2 * length)
    return torch.minimum(position, 2 * length - 1 - position)


def _separable(
    padded: Float[Tensor, "batch padded_height padded_width"], kernel: list[float]
) -> Float[Tensor, "batch height width"]:
    """The kernel along both axes, without padding.

    A sum of shifted maps: on a CPU ten times faster than `conv2d` with one channel, and, unlike `conv2d`, in
    full precision whatever the settings for TF32 and autocast.
    """
    for axis in (1, 2):
        length = padded.shape[axis] - len(kernel) + 1
        total = torch.zeros_like(padded.narrow(axis, 0, length))
        for offset, weight in enumerate(kernel):
            total.add_(padded.narrow(axis, offset, length), alpha=weight)
        padded = total
    return padded


def joined(predictions: Iterable[Prediction]) -> Prediction:
    """Predictions of several batches as one; of none, one of no image."""
    parts = list(predictions)
    if not parts:
        return Prediction(torch.empty(0), None)
    maps = [part.anomaly_maps for part in parts if part.anomaly_maps is not None]
    return Prediction(torch.cat([part.image_scores for part in parts]), torch.cat(maps) if maps else None)


def highest(tiles: Prediction) -> Prediction:
    """What is said of one image, from what is said of its tiles, as far as a threshold is chosen from it.

    Its score is the highest of theirs; its map that of the tile with the highest peak.
    """
    maps, peaks = tiles.anomaly_maps, tiles.peaks
    place = peaks.index(max(peaks)) if peaks else 0
    return Prediction(tiles.image_scores.amax(0, keepdim=True), None if maps is None else maps[place][None])
