"""Metrics as UniAD (arXiv 2206.03687) computes them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Real, Shaped

from adcommon.metrics.inputs import Array, as_numpy
from adcommon.metrics.variants.rankings import mirrored_auroc
from adcommon.models.anomaly_maps import mean_score, pooled_max_score, std_score


@dataclass(frozen=True)
class UniADResult:
    """UniAD's columns; fractions, each mirrored at 0.5."""

    mean: float
    """Image AUROC of the map's mean; the paper's for CIFAR-10."""
    std: float
    """Image AUROC of the map's standard deviation."""
    max: float
    """Image AUROC of the highest mean of a window of the map; the paper's for MVTec AD."""
    pixel: float
    """Pixel AUROC."""


def uniad_metrics(
    maps: Real[Array, "images height width"],
    masks: Shaped[Array, "mask_images mask_height mask_width"],
    pool: int | list[int] | tuple[int, ...] = 16,
) -> UniADResult:
    """All columns of one category.

    An image is anomalous if its resized mask is not empty, whatever its folder.

    Args:
        pool: side of the window, or its height and width.
    """
    maps, masks = as_numpy(maps), as_numpy(masks) > 0
    tensors, anomalous = torch.from_numpy(maps), np.any(masks, axis=(1, 2))
    return UniADResult(
        mirrored_auroc(mean_score(tensors), anomalous, "UniAD mean AUROC"),
        mirrored_auroc(std_score(tensors), anomalous, "UniAD std AUROC"),
        mirrored_auroc(pooled_max_score(tensors, pool), anomalous, "UniAD max AUROC"),
        mirrored_auroc(maps, masks, "UniAD pixel AUROC"),
    )
