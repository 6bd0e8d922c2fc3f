"""AUPRO by the evaluation script of MVTec 3D-AD (arXiv 2112.09045): thresholds at ranks of the negatives."""

import warnings

import numpy as np
from jaxtyping import Real, Shaped

from adcommon.metrics.inputs import Array
from adcommon.metrics.pro import check_limit
from adcommon.metrics.variants.overlaps import area_under, sort_regions


def mvtec3d_evaluation_aupro_100(
    maps: Real[Array, "images height width"],
    masks: Shaped[Array, "mask_images mask_height mask_width"],
    fpr_limit: float = 0.3,
) -> float:
    """Area under the PRO curve at 100 thresholds, divided by the limit, with interpolation at the limit.

    The thresholds are the negatives at 100 equally spaced ranks. The FPR is taken from the rank, not counted,
    which misjudges negatives tied with the threshold: a constant map gives 0 instead of 0.15. NaN and a
    warning without regions or without negatives.
    """
    check_limit(fpr_limit)
    regions = sort_regions(maps, masks)
    count = len(regions.negatives)
    if not regions.regions or not count:
        reason = "no anomalous region" if count else "no normal pixel"
        warnings.warn(f"MVTec 3D-AD AUPRO undefined (NaN): {reason}", stacklevel=2)
        return float("nan")
    ranks = np.linspace(0, count - 1, num=100, dtype=int)[::-1]
    _, pro = regions.overlap(regions.negatives[ranks])
    fpr, pro = np.append(1 - (ranks + 1) / count, 1.0), np.append(pro, 1.0)
    inside = fpr < fpr_limit
    at_limit = np.interp(fpr_limit, fpr, pro)
    return area_under(np.append(fpr[inside], fpr_limit), np.append(pro[inside], at_limit)) / fpr_limit
