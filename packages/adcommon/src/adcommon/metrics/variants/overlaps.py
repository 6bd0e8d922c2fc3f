"""PRO curves at given thresholds, as papers sample them, with every mask labelled once.

Each region's scores and the negatives are sorted once; a threshold then costs one binary search per region.
The counts, and so the curves, are exactly those of labelling and thresholding the maps for each threshold.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Real, Shaped
from scipy import ndimage

from adcommon.metrics.inputs import Array, paired_images
from adcommon.metrics.pro import EIGHT_NEIGHBOURS, label_regions


@dataclass(frozen=True, eq=False)
class SortedRegions:
    """The scores of all images, by region."""

    negatives: Real[np.ndarray, " negatives"]
    """Scores outside all regions, ascending."""
    regions: list[np.ndarray]
    """Scores of each region, ascending."""
    areas: list[int]
    """Number of pixels of each region."""

    def overlap(
        self, thresholds: Real[np.ndarray, " thresholds"]
    ) -> tuple[Float64[np.ndarray, " thresholds"], Float64[np.ndarray, " thresholds"]]:
        """False-positive rate and mean overlap of {map > t}; NaN without negatives, NaN without regions."""
        undefined = np.full(len(thresholds), np.nan)
        fpr, pro = undefined, undefined
        if len(self.negatives):
            fpr = _above(self.negatives, thresholds) / len(self.negatives)
        if self.regions:
            hits = [_above(scores, thresholds) for scores in self.regions]
            pro = (np.stack(hits, axis=1) / np.array(self.areas)).mean(axis=1)
        return fpr, pro


def sort_regions(
    maps: Real[Array, "*stack height width"],
    masks: Shaped[Array, "*mask_stack mask_height mask_width"],
    fill_holes: bool = False,
) -> SortedRegions:
    """The scores of all images, by region; any positive mask value is anomalous.

    With `fill_holes` the scores of a region include those of its holes, its area does not.
    """
    negatives, regions, areas = [], [], []
    for _, image_map, mask in paired_images(maps, masks > 0, None, 0):
        negatives.append(image_map[~mask])
        labels, _ = label_regions(mask)
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            region = labels[box] == number
            areas.append(int(np.count_nonzero(region)))
            if fill_holes:
                region = ndimage.binary_fill_holes(region, EIGHT_NEIGHBOURS)
            regions.append(np.sort(image_map[box][region]))
    return SortedRegions(np.sort(np.concatenate(negatives)), regions, areas)


def equal_steps(maps: Real[np.ndarray, "..."], steps: int) -> Real[np.ndarray, " thresholds"] | None:
    """Thresholds from the smallest score upwards in `steps` equal steps, in the maps' precision.

    The largest score is not among them, unless rounding adds a last step. None if there is no finite step,
    for a constant map or infinite scores, where NumPy's `arange` raises.
    """
    low, high = maps.min(), maps.max()
    if low == high or not np.isfinite(low) or not np.isfinite(high):
        return None
    return np.arange(low, high, (high - low) / steps)


def area_under(x: Float64[np.ndarray, " points"], y: Float64[np.ndarray, " points"]) -> float:
    """Trapezoid area of a curve that may run in either direction."""
    return abs(float(np.trapezoid(y, x)))


def _above(
    ascending: Real[np.ndarray, " scores"], thresholds: Real[np.ndarray, " thresholds"]
) -> Int64[np.ndarray, " thresholds"]:
    """Number of scores above each threshold."""
    return len(ascending) - np.searchsorted(ascending, thresholds, side="right")
