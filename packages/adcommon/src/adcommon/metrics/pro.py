"""AUPRO: the area under the per-region-overlap curve, exact over connected regions.

Regions are the 8-connected components of the ground truth, image by image, and weigh the same whatever
their size. PRO(t) is the mean over regions C of |{map >= t} in C| / |C|. FPR(t) is the share of {map >= t}
among the pixels outside all regions, those of normal images included. The curve starts at (0, 0), ends at
(1, 1) and is straight between distinct thresholds; AUPRO_L is its integral over FPR in [0, L], divided by L.

Source: Bergmann et al., Uninformed Students, CVPR 2020 (arXiv 1911.02357).
"""

import numpy as np
from jaxtyping import Bool, Float64, Int32, Real, Shaped

from adcommon.errors import BadValue, require
from adcommon.metrics.curves import warn_undefined
from adcommon.metrics.inputs import Array, paired_images
from adcommon.metrics.ranking import Ranking

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)


def label_regions(mask: Bool[np.ndarray, "height width"]) -> tuple[Int32[np.ndarray, "height width"], int]:
    """Number of the 8-connected region of each pixel (0: none), and the number of regions."""
    require("metrics", "scipy")
    from scipy import ndimage

    labels, count = ndimage.label(mask, EIGHT_NEIGHBOURS)
    return labels, count


def region_weights(mask: Bool[np.ndarray, "height width"]) -> tuple[Float64[np.ndarray, " pixels"], int]:
    """1 / (pixels of its region) for each anomalous pixel, row by row, and the number of regions."""
    if not mask.any():
        return np.empty(0), 0
    labels, regions = label_regions(mask)
    labels = labels[mask]
    return 1 / np.bincount(labels)[labels], regions


class RegionScores:
    """Pooled pixel scores: the negatives', and the positives' with the weight their region gives each pixel.

    One copy of every score in its own precision; the sum of a region's weights is 1.
    """

    def __init__(self) -> None:
        """Nothing collected yet."""
        self.regions = 0
        self._negatives: list[np.ndarray] = []
        self._positives: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []
        self._ranked: tuple[Ranking, np.ndarray] | None = None

    def add_image(
        self, image_map: Real[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"]
    ) -> None:
        """Add one image: its regions are labelled once, here."""
        weights, regions = region_weights(mask)
        self.add_negatives(image_map[~mask] if regions else image_map.flatten())
        if regions:
            self.add_regions(image_map[mask], weights, regions)

    def add_negatives(self, scores: Real[np.ndarray, " pixels"]) -> None:
        """Add scores of pixels outside all regions; the array is kept, not copied."""
        self._negatives.append(scores)
        self._ranked = None

    def add_regions(
        self, scores: Real[np.ndarray, " pixels"], weights: Float64[np.ndarray, " pixels"], regions: int
    ) -> None:
        """Add the scores of whole regions, with weights that sum to 1 in each."""
        self._positives.append(scores)
        self._weights.append(weights)
        self.regions += regions
        self._ranked = None

    def merge(self, other: "RegionScores") -> None:
        """Add what `other` has collected; `other` stays as it is."""
        self._negatives += other._negatives
        self._positives += other._positives
        self._weights += other._weights
        self.regions += other.regions
        self._ranked = None

    def rank(self) -> tuple[Ranking, Float64[np.ndarray, " positives"]]:
        """The ranking of the positives, ascending, and their weights in the same order."""
        if self._ranked is None:
            positives = np.concatenate(self._positives or [np.empty(0)])
            weights = np.concatenate(self._weights or [np.empty(0)])
            order = np.argsort(positives)
            self._ranked = Ranking.of(positives[order], self._negatives), weights[order]
        return self._ranked

    def aupro(self, limit: float) -> float:
        """Area under the PRO curve up to a false-positive rate of `limit`, divided by it; NaN if undefined.

        Each positive of weight w raises the curve by w / K along a ramp from FPR = share of negatives above
        it to FPR = share of negatives not below it, so the area is a sum over positives and needs no curve.
        """
        check_limit(limit)
        ranking, weights = self.rank()
        if self.regions == 0 or ranking.negatives == 0:
            return float("nan")
        start = ranking.above / ranking.negatives
        end = ranking.not_below / ranking.negatives
        area = limit - (start + end) / 2
        cut = (start < limit) & (end > limit)
        area[cut] = (limit - start[cut]) ** 2 / (2 * (end[cut] - start[cut]))
        below = start < limit
        # Not `@`: the threads that BLAS starts for it took 20 times as long on shared cores.
        total = float(np.sum(weights[below] * area[below])) / (self.regions * limit)
        return min(total, 1.0)  # weights of a third or a seventh add up to a little more than 1

    def pro_at(self, threshold: float) -> float:
        """PRO at a threshold: the mean over regions of the share of pixels with a score >= threshold."""
        if self.regions == 0:
            return float("nan")
        ranking, weights = self.rank()
        return float(weights[ranking.positives >= threshold].sum()) / self.regions


def aupro(
    maps: Real[Array, "*stack height width"],
    masks: Shaped[Array, "*mask_stack mask_height mask_width"],
    fpr_limit: float = 0.3,
) -> float:
    """Area under the per-region-overlap curve up to a false-positive rate, divided by that rate: in [0, 1].

    The integral of PRO over FPR in [0, fpr_limit] with linear interpolation at the limit. Chance level is
    fpr_limit / 2: a constant map has 0.15 at 0.3. For images of several sizes use `PixelMetrics`.

    Args:
        maps: higher means more anomalous; any scale, only the order counts.
        masks: anything positive is anomalous.
        fpr_limit: 0.3 in most papers, 0.05 for MVTec AD 2.
    Source: Bergmann et al., Uninformed Students, CVPR 2020 (arXiv 1911.02357).
    """
    scores = RegionScores()
    for _, image_map, mask in paired_images(maps, masks, None, 0):
        scores.add_image(image_map, mask)
    ranking, _ = scores.rank()
    warn_undefined(["AUPRO"], [], len(ranking.positives), ranking.negatives, "pixel")
    return scores.aupro(fpr_limit)


def check_limit(limit: float) -> None:
    """Refuse a false-positive-rate limit outside (0, 1]."""
    if not 0 < limit <= 1:
        raise BadValue(f"false-positive-rate limit {limit}; expected a number in (0, 1], usually 0.3 or 0.05")
