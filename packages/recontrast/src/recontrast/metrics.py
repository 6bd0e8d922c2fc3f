"""Metrics as ReContrast (arXiv 2306.02602) computes them; they do not compare with other papers' numbers.

Its AUPRO samples 200 thresholds that are equal steps of the scores, so it depends on their scale; takes each
anomalous image alone, so false positives on normal images never count; and neither interpolates at the limit
nor starts at (0, 0). AUROC and AP are the exact ones, rounded to 4 digits before averaging over categories.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Real, Shaped

from adcommon.metrics.inputs import Array, as_numpy, binary_labels, paired_images
from adcommon.metrics.variants.overlaps import area_under, equal_steps, sort_regions
from adcommon.metrics.variants.rankings import distinct_counts

FPR_LIMIT = 0.3


@dataclass(frozen=True)
class RecontrastBestF1:
    """Image-level decision at the threshold that is best on the test labels."""

    f1: float
    accuracy: float
    threshold: float
    """{score >= threshold} is anomalous."""
    specificity: float
    """Share of normal images below the threshold; NaN without normal images."""


def recontrast_aupro(
    maps: Real[Array, "images height width"],
    masks: Shaped[Array, "mask_images mask_height mask_width"],
    names: Sequence[str] | None = None,
    labels: Shaped[Array, " labels"] | None = None,
) -> float:
    """Mean of `recontrast_aupro_per_image` over the anomalous images; NaN if undefined for one of them."""
    values, anomalous = _per_image(maps, masks, names, labels)
    if not anomalous.any():
        warnings.warn("ReContrast AUPRO undefined (NaN): no image is anomalous", stacklevel=2)
        return float("nan")
    return float(np.mean(values[anomalous]))


def recontrast_aupro_per_image(
    maps: Real[Array, "images height width"],
    masks: Shaped[Array, "mask_images mask_height mask_width"],
    names: Sequence[str] | None = None,
    labels: Shaped[Array, " labels"] | None = None,
) -> Float64[np.ndarray, " images"]:
    """ReContrast's AUPRO of each image alone; NaN for normal images.

    Thresholds t are 200 equal steps from the image's smallest score; prediction is map > t. Of the points
    with FPR < 0.3 the FPR is divided by the largest one kept, and the trapezoid area is taken. NaN where the
    authors' function raises or divides 0 by 0, and one warning that names the images and reasons.

    `labels`: 0 normal, 1 anomalous; default: anomalous is an image whose mask is not empty.
    """
    return _per_image(maps, masks, names, labels)[0]


def recontrast_aupro_pooled(
    maps: Real[Array, "images height width"],
    masks: Shaped[Array, "mask_images mask_height mask_width"],
    steps: int = 200,
) -> float:
    """The same function given all images at once: common thresholds, pooled FPR, mean over all regions."""
    value, reason = _aupro(as_numpy(maps), as_numpy(masks), steps)
    if reason:
        warnings.warn(f"pooled ReContrast AUPRO undefined (NaN): {reason}", stacklevel=2)
    return value


def recontrast_best_f1(scores: Real[Array, " images"], labels: Shaped[Array, " labels"]) -> RecontrastBestF1:
    """F1, accuracy and specificity at the threshold with the highest F = 2PR / (P + R + 1e-7).

    The threshold is chosen with the test labels. Candidates are the distinct scores, ascending; the first
    maximum wins. The reported F1 is the plain one. Without anomalous images F is 0 everywhere and the
    smallest score is the threshold.
    """
    thresholds, hits, false = distinct_counts(scores, labels)
    anomalous, normal = int(hits[0]), int(false[0])
    precision = hits / (hits + false)
    recall = hits / anomalous if anomalous else np.ones(len(hits))
    # Faithful: of two thresholds with equal plain F1 the small constant prefers the larger P + R.
    best = int(np.argmax(2 * precision * recall / (precision + recall + 1e-7)))
    return RecontrastBestF1(
        f1=float(2 * hits[best] / (anomalous + hits[best] + false[best])),
        accuracy=float((hits[best] + normal - false[best]) / (anomalous + normal)),
        threshold=float(thresholds[best]),
        specificity=float(1 - false[best] / normal) if normal else float("nan"),
    )


def _per_image(
    maps: Real[Array, "images height width"],
    masks: Shaped[Array, "mask_images mask_height mask_width"],
    names: Sequence[str] | None,
    labels: Shaped[Array, " labels"] | None,
) -> tuple[Float64[np.ndarray, " images"], Bool[np.ndarray, " images"]]:
    """Each image's AUPRO, NaN for normal images, and which images are anomalous; warns once."""
    images = list(paired_images(maps, masks > 0, names, 0))
    anomalous = np.array([mask.any() for _, _, mask in images]) if labels is None else binary_labels(labels)
    values, reasons = np.full(len(images), np.nan), []
    for number, (name, image_map, mask) in enumerate(images):
        if anomalous[number]:
            values[number], reason = _aupro(image_map[None], mask[None], 200)
            reasons += [f"{name}: {reason}"] if reason else []
    if reasons:
        warnings.warn(f"ReContrast AUPRO undefined (NaN) for {'; '.join(reasons)}", stacklevel=3)
    return values, anomalous


def _aupro(
    maps: Real[np.ndarray, "images height width"],
    masks: Shaped[np.ndarray, "images height width"],
    steps: int,
) -> tuple[float, str]:
    """The authors' function, or NaN and the reason why it has no value."""
    thresholds = equal_steps(maps, steps)
    regions = sort_regions(maps, masks)
    if not regions.regions:
        return float("nan"), "empty mask"
    if not len(regions.negatives):
        return float("nan"), "mask without a normal pixel"
    if thresholds is None:
        return float("nan"), "constant or infinite map"
    fpr, pro = regions.overlap(thresholds)
    kept = fpr < FPR_LIMIT
    if np.count_nonzero(kept) < 2:
        return float("nan"), f"fewer than two thresholds with FPR below {FPR_LIMIT}"
    if fpr[kept].max() == 0:
        return float("nan"), f"no false positive at the thresholds with FPR below {FPR_LIMIT}"
    return area_under(fpr[kept] / fpr[kept].max(), pro[kept]), ""
