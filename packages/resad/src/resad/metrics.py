"""Metrics as ResAD (arXiv 2410.20047) computes them, each rounded to 5 digits."""

import warnings
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Real, Shaped

from adcommon.metrics.curves import rank, warn_undefined
from adcommon.metrics.inputs import Array, as_numpy
from adcommon.metrics.ranking import Ranking
from adcommon.metrics.variants.overlaps import area_under, equal_steps, sort_regions


@dataclass(frozen=True)
class ResADResult:
    """The columns of ResAD's table, in order; fractions."""

    image_auroc: float
    image_ap: float
    image_f1: float
    pixel_auroc: float
    pixel_ap: float
    pixel_f1: float
    aupro: float
    """-1 where it is off, as in the authors' validation; not rounded."""


def resad_metrics(
    maps: Real[Array, "images height width"],
    masks: Shaped[Array, "mask_images mask_height mask_width"],
    image_scores: Real[Array, " images"],
    labels: Shaped[Array, " images"],
    with_aupro: bool = False,
) -> ResADResult:
    """All columns of one category; all NaN if AUPRO is on and the maps are constant: the reference raises.

    Without anomalous images AP and F1 are 0, as scikit-learn's functions give.
    """
    aupro = resad_aupro(maps, masks) if with_aupro else -1.0
    if with_aupro and equal_steps(as_numpy(maps), 1) is None:
        return ResADResult(*[float("nan")] * len(fields(ResADResult)))
    image = rank(image_scores, labels)
    pixel = rank(maps, as_numpy(masks) > 0)
    warn_undefined(["ResAD image AUROC"], [], len(image.positives), image.negatives, "image")
    warn_undefined(["ResAD pixel AUROC"], [], len(pixel.positives), pixel.negatives, "pixel")
    return ResADResult(*_columns(image), *_columns(pixel), aupro)


def resad_aupro(
    maps: Real[Array, "images height width"],
    masks: Shaped[Array, "mask_images mask_height mask_width"],
    steps: int = 200,
    fpr_limit: float = 0.3,
) -> float:
    """Area under a sampled PRO curve whose FPR is rescaled to [0, 1]; 0.5 if at most two points are left.

    Thresholds are equal steps up from the smallest score of all maps; prediction is map > t. Of the points
    with FPR < `fpr_limit` the FPR is rescaled by its minimum and maximum, and the trapezoid area is taken.
    """
    maps = as_numpy(maps)
    thresholds = equal_steps(maps, steps)
    reason = "constant or infinite maps"
    if thresholds is not None:
        regions = sort_regions(maps, masks)
        fpr, pro = regions.overlap(thresholds)
        kept = fpr < fpr_limit
        if np.count_nonzero(kept) <= 2:
            return 0.5
        reason = "" if regions.regions else "no anomalous region"
        if np.ptp(fpr[kept]) == 0:
            reason = f"one false-positive rate at all thresholds below {fpr_limit}"
    if reason:
        warnings.warn(f"ResAD AUPRO undefined (NaN): {reason}", stacklevel=2)
        return float("nan")
    return area_under((fpr[kept] - fpr[kept].min()) / np.ptp(fpr[kept]), pro[kept])


def _columns(ranking: Ranking) -> tuple[float, float, float]:
    """AUROC, AP and F1-max to 5 digits."""
    if len(ranking.positives) == 0:
        return float("nan"), 0.0, 0.0
    return round(ranking.auroc(), 5), round(ranking.average_precision(), 5), round(ranking.f1_max()[0], 5)
