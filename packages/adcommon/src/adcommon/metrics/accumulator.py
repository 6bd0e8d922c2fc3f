"""Pixel metrics of a test set, collected image by image: exact, in any order, from several processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Real, Shaped

from adcommon.metrics.curves import Curve, step_curve, warn_empty_masks, warn_inverted, warn_undefined
from adcommon.metrics.inputs import Array, empty_masks, paired_images
from adcommon.metrics.pro import RegionScores


@dataclass(frozen=True)
class PixelResult:
    """Metrics over all pixels of all images; fractions in [0, 1], NaN where undefined."""

    auroc: float
    ap: float
    """Average precision."""
    f1max: float
    threshold: float
    """Smallest score t at which {map >= t} reaches F1-max; chosen with the masks, so an oracle."""
    aupro: dict[float, float]
    """False-positive-rate limit -> area under the per-region-overlap curve up to it, divided by it."""
    regions: int
    """Number of 8-connected anomalous regions, image by image."""
    positives: int
    """Number of anomalous pixels."""
    negatives: int
    """Number of normal pixels."""


class PixelMetrics:
    """Collects anomaly maps and masks; `compute` gives AUROC, AP, F1-max and AUPRO at once.

    Keeps one copy of the scores in their own precision (4 bytes per pixel for float32 maps) and some 40 bytes
    per anomalous pixel; where that is too much use `adcommon.metrics.streaming`.
    """

    def __init__(self) -> None:
        """Nothing collected yet."""
        self._scores = RegionScores()
        self._images = 0
        self._without_region: list[str] = []

    def update(
        self,
        maps: Real[Array, "*stack height width"],
        masks: Shaped[Array, "*mask_stack mask_height mask_width"],
        names: Sequence[str] | None = None,
        labels: Shaped[Array, " labels"] | Sequence[int] | None = None,
    ) -> None:
        """Add a stack of images, or one image; images of different calls may differ in size.

        Args:
            maps: higher means more anomalous; any scale, only the order counts; NaN is refused.
            masks: of the maps' size; anything positive is anomalous. Float masks hold 0 and one other value.
            names: what messages call the images; default "image 0", "image 1", ...
            labels: 0 normal, 1 anomalous; only to warn of anomalous images whose mask is empty.
        """
        images = list(paired_images(maps, masks, names, self._images))
        self._without_region += empty_masks(images, labels)
        for _, image_map, mask in images:
            self._scores.add_image(image_map, mask)
        self._images += len(images)

    def merge(self, other: "PixelMetrics") -> None:
        """Add what another accumulator has collected, for example another process's share of the images."""
        self._scores.merge(other._scores)
        self._images += other._images
        self._without_region += other._without_region

    def compute(self, limits: Sequence[float] = (0.3, 0.05)) -> PixelResult:
        """All metrics of the images so far.

        Warns once with the reason if any is undefined, if AUROC is below 0.5 (nothing is flipped), and if
        images labelled anomalous have an empty mask.

        Args:
            limits: false-positive rates up to which AUPRO integrates.
        """
        ranking, _ = self._scores.rank()
        result = PixelResult(
            ranking.auroc(),
            ranking.average_precision(),
            *ranking.f1_max(),
            aupro={limit: self._scores.aupro(limit) for limit in limits},
            regions=self._scores.regions,
            positives=len(ranking.positives),
            negatives=ranking.negatives,
        )
        undefined_without = ["pixel AUROC", "AUPRO"], ["pixel AP", "pixel F1-max"]
        warn_undefined(*undefined_without, result.positives, result.negatives, "pixel")
        warn_inverted("pixel AUROC", result.auroc)
        warn_empty_masks(self._without_region, self._images)
        return result

    def curve(self, kind: Literal["pro", "roc"] = "pro", points: int = 2000) -> Curve:
        """The PRO or ROC curve for plots, thinned to at most `points` corners that lose the least area."""
        ranking, weights = self._scores.rank()
        return step_curve(ranking, weights if kind == "pro" else None, points)

    def pro_at(self, threshold: float) -> float:
        """PRO at a threshold: the mean over regions of the share of pixels with a score >= threshold."""
        return self._scores.pro_at(threshold)
