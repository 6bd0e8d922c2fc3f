"""Pixel metrics in bounded memory, each returned with an interval that certainly holds the exact value.

Scores are counted in bins of an order-preserving key, so memory does not depend on the number of pixels: 32
bytes per bin, 32 MB at the default 2^20 bins. A bin is treated as a tie. Whatever the order of the scores in
it, the true curve stays in the bin's rectangle, which bounds the error. A further pass over the maps splits
only the bins that cause it.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from adcommon.errors import BadValue
from adcommon.metrics.bins import Bins, order_key, score_of_key
from adcommon.metrics.bounds import Bounded, Walk
from adcommon.metrics.curves import warn_empty_masks, warn_inverted, warn_undefined
from adcommon.metrics.inputs import Array, empty_masks, paired_images
from adcommon.metrics.pro import check_limit, region_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamingResult:
    """What `PixelResult` holds, with bounds."""

    auroc: Bounded
    ap: Bounded
    f1max: Bounded
    threshold: float
    """The smallest score t at which {map >= t} reaches `f1max.value`, among the borders of bins."""
    aupro: dict[float, Bounded]
    regions: int
    positives: int
    negatives: int

    @property
    def error(self) -> float:
        """Largest error of AUROC and the AUPROs, which a tolerance is compared with."""
        return max(bounded.error for bounded in (self.auroc, *self.aupro.values()))


class StreamingMetrics:
    """`PixelMetrics` in bounded memory; `compute` returns intervals, `refine` prepares a sharper pass.

    Accumulators of several processes merge by addition if they have the same bins: refine the merged one.
    """

    def __init__(self, bits: int = 20, dtype: str = "float32") -> None:
        """An empty accumulator.

        Args:
            bits: 2**bits bins, 32 bytes each.
            dtype: "float32" or "float64": the maps' precision; narrower maps are widened without loss.
        """
        self._bits = bits
        self._dtype = np.dtype(dtype)
        self._begin(Bins.uniform(bits, self._dtype))

    def _begin(self, bins: Bins) -> None:
        """Empty counts for these bins."""
        self._bins = bins
        self._negatives = np.zeros(len(bins.first), np.int64)
        self._positives = np.zeros(len(bins.first), np.int64)
        self._weights = np.zeros(len(bins.first))
        self._regions = 0
        self._images = 0
        self._without_region: list[str] = []

    def update(
        self,
        maps: Float[Array, "*stack height width"],
        masks: Shaped[Array, "*mask_stack mask_height mask_width"],
        names: Sequence[str] | None = None,
        labels: Sequence[int] | None = None,
    ) -> None:
        """Add a stack of images, or one image, as `PixelMetrics.update` does."""
        images = list(paired_images(maps, masks, names, self._images))
        self._without_region += empty_masks(images, labels)
        for name, image_map, mask in images:
            if not np.can_cast(image_map.dtype, self._dtype):
                raise BadValue(
                    f"{name}: the anomaly map is {image_map.dtype}, but as {self._dtype} some scores would "
                    f'become equal; create the accumulator with dtype="{image_map.dtype}"'
                )
            keys = order_key(image_map.astype(self._dtype))
            weights, regions = region_weights(mask)
            np.add.at(self._negatives, self._bins.index(keys[~mask]), 1)
            bins = self._bins.index(keys[mask])
            np.add.at(self._positives, bins, 1)
            np.add.at(self._weights, bins, weights)
            self._regions += regions
            self._images += 1

    def merge(self, other: "StreamingMetrics") -> None:
        """Add the counts of another accumulator with the same bins."""
        if not np.array_equal(self._bins.first, other._bins.first):
            raise BadValue("accumulators have different bins; expected the same bits, dtype and refinement")
        self._negatives += other._negatives
        self._positives += other._positives
        self._weights += other._weights
        self._regions += other._regions
        self._images += other._images
        self._without_region += other._without_region

    def compute(self, limits: Sequence[float] = (0.3, 0.05)) -> StreamingResult:
        """All metrics of the images so far, with bounds; warns as `PixelMetrics.compute` does."""
        result = self._bounds(limits)
        undefined_without = ["pixel AUROC", "AUPRO"], ["pixel AP", "pixel F1-max"]
        warn_undefined(*undefined_without, result.positives, result.negatives, "pixel")
        warn_inverted("pixel AUROC", result.auroc.value)
        warn_empty_masks(self._without_region, self._images)
        return result

    def refine(self, tolerance: float = 1e-4, limits: Sequence[float] = (0.3, 0.05)) -> "StreamingMetrics":
        """An empty accumulator with finer bins where this one's error comes from: feed it all maps again.

        The largest contributions to each error are split until the rest is below half the tolerance. The
        finer bins take at most the memory of the first pass besides.
        """
        walk = self._walk()
        offending = np.zeros(len(walk.numbers), dtype=bool)
        for errors in (walk.auroc_errors(), *(walk.aupro_errors(limit) for limit in limits)):
            order = np.argsort(errors)
            offending[order[np.cumsum(errors[order]) > tolerance / 2]] = True
        bins = self._bins
        if offending.any():
            bins = bins.split(walk.numbers[offending], 1 << self._bits)
        finer = StreamingMetrics(self._bits, self._dtype.name)
        finer._begin(bins)
        return finer

    def _walk(self) -> Walk:
        """The occupied bins, from the highest score downwards."""
        numbers = np.flatnonzero(self._negatives + self._positives)[::-1]
        return Walk(
            numbers,
            self._bins.bits[numbers] == 0,
            self._negatives[numbers],
            self._positives[numbers],
            self._weights[numbers],
            self._regions,
        )

    def _bounds(self, limits: Sequence[float]) -> StreamingResult:
        """`compute` without the warnings."""
        for limit in limits:
            check_limit(limit)
        walk = self._walk()
        f1max, place = walk.f1_max()
        threshold = float("nan")
        if self._regions:
            threshold = score_of_key(int(self._bins.first[walk.numbers[place]]), self._dtype)
        return StreamingResult(
            walk.auroc(),
            walk.average_precision(),
            f1max,
            threshold,
            aupro={limit: walk.aupro(limit) for limit in limits},
            regions=self._regions,
            positives=int(self._positives.sum()),
            negatives=int(self._negatives.sum()),
        )


def streaming_metrics(
    batches: Callable[[], Iterable[tuple[Array, Array]]],
    *,
    tolerance: float = 1e-4,
    limits: Sequence[float] = (0.3, 0.05),
    bits: int = 20,
    dtype: str = "float32",
) -> StreamingResult:
    """Pixel metrics in bounded memory; AUROC and AUPRO are certainly within `tolerance` of the exact values.

    One pass over the maps is enough for most; where many scores share a bin (20 + s shares its leading bits)
    another one splits the bins that matter.

    Args:
        batches: starts a pass: returns an iterable of (maps, masks), the same ones each time, for example a
            function that reads the maps from disk.
        tolerance: largest error of AUROC and each AUPRO; 0 asks for the exact values.
        limits: false-positive rates up to which AUPRO integrates.
        bits: 2**bits bins, 32 bytes each; the bins of a further pass take the same again.
        dtype: "float32" or "float64": the maps' precision.
    """
    metrics = StreamingMetrics(bits, dtype)
    pixels = None
    while True:
        for maps, masks in batches():
            metrics.update(maps, masks)
        bounds = metrics._bounds(limits)
        seen = (bounds.positives, bounds.negatives)
        if pixels not in (None, seen):
            raise BadValue(
                f"this pass over the maps had {seen} anomalous and normal pixels, the one before {pixels}; "
                "expected a function that starts the same pass each time, not an iterator that runs dry"
            )
        if not bounds.error > tolerance:  # also if undefined
            return metrics.compute(limits)
        logger.info("streaming-metrics error-bound %.2g tolerance %.2g", bounds.error, tolerance)
        metrics, pixels = metrics.refine(tolerance, limits), seen
