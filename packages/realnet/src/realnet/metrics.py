"""RealNet's own metric (arXiv 2403.05897); its other columns are AUROCs, see `evaluate`."""

import warnings

import numpy as np
from jaxtyping import Real, Shaped

from adcommon.metrics.inputs import Array, as_numpy
from adcommon.metrics.variants.overlaps import area_under, sort_regions


def realnet_pro(
    maps: Real[Array, "images height width"],
    masks: Shaped[Array, "mask_images mask_height mask_width"],
    steps: int = 1000,
    fpr_limit: float = 0.3,
) -> float:
    """Area under a sampled PRO curve whose FPR is rescaled to [0, 1].

    Thresholds are equal steps down from the largest score; prediction is map > t. The overlap of a region
    counts its holes, its area does not, so PRO can exceed 1. Of the points with FPR <= `fpr_limit` the FPR is
    rescaled by its minimum and maximum, and the trapezoid area is taken. NaN and a warning where the authors'
    function raises or divides 0 by 0.
    """
    maps = as_numpy(maps)
    regions = sort_regions(maps, masks, fill_holes=True)
    low, high = maps.min(), maps.max()
    thresholds = high - np.arange(steps).astype(maps.dtype) * ((high - low) / steps)
    fpr, pro = regions.overlap(thresholds)
    kept = fpr <= fpr_limit
    reason = ""
    if not regions.regions:
        reason = "no anomalous region"
    elif not len(regions.negatives):
        reason = "no normal pixel"
    elif np.ptp(fpr[kept]) == 0:
        reason = f"one false-positive rate at all thresholds up to {fpr_limit}, as for a constant map"
    if reason:
        warnings.warn(f"RealNet PRO undefined (NaN): {reason}", stacklevel=2)
        return float("nan")
    return area_under((fpr[kept] - fpr[kept].min()) / np.ptp(fpr[kept]), pro[kept])
