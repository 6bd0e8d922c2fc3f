"""Certified bounds of pixel metrics whose scores are known only up to the bin they fall into."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64


@dataclass(frozen=True)
class Bounded:
    """A value and the interval that holds the exact one, up to float64 rounding (1e-10); NaN if undefined."""

    value: float
    low: float
    high: float

    @classmethod
    def around(cls, value: float, error: float) -> "Bounded":
        """The interval of this radius, inside [0, 1]."""
        return cls(value, max(0.0, value - error), min(1.0, value + error))

    @property
    def error(self) -> float:
        """Largest possible distance between `value` and the exact value."""
        return max(self.high - self.value, self.value - self.low)


UNDEFINED = Bounded(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True, eq=False)
class Walk:
    """The occupied bins from the highest score down; each is a rectangle that the true curve crosses."""

    numbers: Int64[np.ndarray, " bins"]
    """Which bins these are."""
    ties: Bool[np.ndarray, " bins"]
    """The bin holds one score only, so that nothing in it is unknown."""
    negatives: Int64[np.ndarray, " bins"]
    positives: Int64[np.ndarray, " bins"]
    weights: Float64[np.ndarray, " bins"]
    """Sum over positives of 1 / (pixels of the positive's region)."""
    regions: int

    @property
    def defined(self) -> bool:
        """There are scores of both kinds."""
        return bool(self.positives.any() and self.negatives.any())

    def auroc_errors(self) -> Float64[np.ndarray, " bins"]:
        """By how much each bin's path can differ from its chord: half the rectangle."""
        return np.where(self.ties, 0.0, _shares(self.negatives) * _shares(self.positives) / 2)

    def auroc(self) -> Bounded:
        """AUROC with every bin a tie."""
        if not self.defined:
            return UNDEFINED
        width = _shares(self.negatives)
        value = 1 - float(np.sum(_shares(self.positives) * (np.cumsum(width) - width / 2)))
        return Bounded.around(value, float(self.auroc_errors().sum()))

    def _below_limit(self, limit: float) -> tuple[np.ndarray, np.ndarray]:
        """Width of each bin in FPR that lies below the limit, and the share of the bin that this is."""
        width = _shares(self.negatives)
        start = np.cumsum(width) - width
        used = np.clip(limit - start, 0.0, width)
        return used, np.divide(used, width, out=np.zeros_like(used), where=width > 0)

    def aupro_errors(self, limit: float) -> Float64[np.ndarray, " bins"]:
        """By how much each bin's path can differ from its chord, up to the limit, divided by the limit.

        Below the limit that is half the rectangle. Of the bin that the limit cuts, the path may take all of
        the part's rectangle, and the chord has the triangle.
        """
        used, share = self._below_limit(limit)
        return np.where(self.ties, 0.0, self.weights / max(1, self.regions) * used * (1 - share / 2) / limit)

    def aupro(self, limit: float) -> Bounded:
        """AUPRO with every bin a tie."""
        if not self.defined:
            return UNDEFINED
        used, share = self._below_limit(limit)
        rise = self.weights / self.regions
        area = np.sum((np.cumsum(rise) - rise) * used + rise * used * share / 2)
        return Bounded.around(float(area) / limit, float(self.aupro_errors(limit).sum()))

    def average_precision(self) -> Bounded:
        """AP with every bin a tie, and the interval of the worst and best orders inside the bins.

        Best: a bin's positives come first, tied with each other. Worst: its negatives come first, then its
        positives one by one; the precisions (h + j) / (h + j + f), j = 1..p, add to p - f sum 1/(h + j + f).
        """
        total = int(self.positives.sum())
        if total == 0:
            return UNDEFINED
        hits, false = np.cumsum(self.positives), np.cumsum(self.negatives)
        earlier_hits, earlier_false = hits - self.positives, false - self.negatives
        some = self.positives > 0
        tied = self.positives[some] * hits[some] / (hits + false)[some]
        best = self.positives[some] * hits[some] / (hits + earlier_false)[some]
        worst = self.positives - false * _reciprocal_sum(earlier_hits + false, self.positives)
        return Bounded(
            float(tied.sum()) / total,
            float(np.where(self.ties[some], tied, worst[some]).sum()) / total,
            float(np.where(self.ties[some], tied, best).sum()) / total,
        )

    def f1_max(self) -> tuple[Bounded, int]:
        """Best F1 at the borders of bins, and the place in this walk of the lowest bin that reaches it.

        No threshold inside a bin does better than all its positives and none of its negatives.
        """
        total = int(self.positives.sum())
        if total == 0:
            return UNDEFINED, 0
        hits, false = np.cumsum(self.positives), np.cumsum(self.negatives)
        f1 = 2 * hits / (total + hits + false)
        inside = 2 * hits / (total + hits + false - self.negatives)
        best = float(f1.max())
        high = float(np.where(self.ties | (self.positives == 0), f1, inside).max())
        return Bounded(best, best, high), int(np.flatnonzero(f1 == best)[-1])


def _shares(counts: Int64[np.ndarray, " bins"]) -> Float64[np.ndarray, " bins"]:
    """Each bin's share of the total; 0 if there is none."""
    return counts / max(1, counts.sum())


def _reciprocal_sum(
    start: Int64[np.ndarray, " n"], count: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """1 / (start + 1) + ... + 1 / (start + count), to float64 precision."""
    from scipy.special import digamma

    first = start + 1.0
    end = first + count
    # A difference of digammas; beyond 100 their series, because the difference itself would cancel.
    series = (
        np.log1p(count / first)
        + count / (2 * first * end)
        + (first**-2 - end**-2) / 12
        - (first**-4 - end**-4) / 120
    )
    return np.where(first < 100, digamma(end) - digamma(first), series)
