"""Where positives stand among negatives: the one thing that AUROC, AP, F1-max and AUPRO are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int32, Int64, Real


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where each positive stands among the negatives: all that the exact metrics need."""

    positives: Real[np.ndarray, " positives"]
    """Ascending."""
    above: Int64[np.ndarray, " positives"]
    """Number of negatives with a higher score."""
    not_below: Int64[np.ndarray, " positives"]
    """Number of negatives with an equal or higher score."""
    negatives: int

    @classmethod
    def of(cls, positives: Real[np.ndarray, " positives"], negatives: Sequence[np.ndarray]) -> "Ranking":
        """From positives in ascending order, and negatives in any order and any number of pieces.

        A grid of cells over the positives' range saves sorting the negatives: those in a cell without a
        positive need only be counted. The rivals, about a tenth, are sorted and searched.
        """
        grid = Grid.over(positives, [piece.dtype for piece in negatives])
        cells = grid.cells(positives)
        shared = np.zeros(grid.count + 2, dtype=bool)
        shared[cells] = True
        counts = np.zeros(grid.count + 2, dtype=np.int64)
        rivals = [np.empty(0, positives.dtype)]
        for piece in negatives:
            piece_cells = grid.cells(piece)
            np.add.at(counts, piece_cells, 1)
            rivals.append(piece[shared[piece_cells]])
        counts[shared] = 0
        ordered = np.concatenate(rivals)
        ordered.sort()  # by value: an argsort takes ten times as long
        higher = counts.sum() - np.cumsum(counts, out=counts)[cells] + len(ordered)
        return cls(
            positives,
            above=higher - np.searchsorted(ordered, positives, side="right"),
            not_below=higher - np.searchsorted(ordered, positives, side="left"),
            negatives=sum(map(len, negatives)),
        )

    @cached_property
    def hits(self) -> Int64[np.ndarray, " positives"]:
        """Number of positives that are not below each positive."""
        return len(self.positives) - np.searchsorted(self.positives, self.positives, side="left")

    def auroc(self) -> float:
        """Share of (positive, negative) pairs in the right order, ties counting one half."""
        pairs = len(self.positives) * self.negatives
        if pairs == 0:
            return float("nan")
        # In integers, so that constant scores give 0.5 exactly.
        return (2 * pairs - int(self.above.sum()) - int(self.not_below.sum())) / (2 * pairs)

    def average_precision(self) -> float:
        """Mean over positives of the precision at that positive's score."""
        if len(self.positives) == 0:
            return float("nan")
        return float(np.mean(self.hits / (self.hits + self.not_below)))

    def f1_max(self) -> tuple[float, float]:
        """Best F1 over all thresholds, and the smallest threshold reaching it, always a positive's score."""
        if len(self.positives) == 0:
            return float("nan"), float("nan")
        f1 = 2 * self.hits / (len(self.positives) + self.hits + self.not_below)
        best = int(np.argmax(f1))
        return float(f1[best]), float(self.positives[best])


@dataclass(frozen=True)
class Grid:
    """Equal cells between two scores, numbered from 1; cell 0 is below and cell `count` + 1 above them.

    Rounding may move a score to a neighbouring cell but never swaps two: a higher score's cell is not lower.
    """

    low: float
    scale: float
    """Cells per unit of score."""
    count: int
    dtype: np.dtype
    """Precision of the arithmetic, the same for all scores."""

    @classmethod
    def over(cls, scores: Real[np.ndarray, " scores"], other_dtypes: Sequence[np.dtype]) -> "Grid":
        """About eight cells per score over the range of the finite ones; `cells` takes other dtypes too."""
        narrow = {np.dtype(np.float16), np.dtype(np.float32)}.issuperset([scores.dtype, *other_dtypes])
        dtype = np.dtype(np.float32 if narrow else np.float64)
        finite = scores[np.isfinite(scores)].astype(np.float64)
        span = float(np.ptp(finite)) if len(finite) else 0.0
        if not 1e-30 < span < 1e30:
            return cls(0.0, 1.0, 1, dtype)
        count = 1 << min(max(16, (8 * len(finite)).bit_length()), 21)
        return cls(float(finite.min()), count / span, count, dtype)

    def cells(self, scores: Real[np.ndarray, " scores"]) -> Int32[np.ndarray, " scores"]:
        """The cell of each score."""
        with np.errstate(over="ignore"):
            position = scores.astype(self.dtype, copy=False) - self.dtype.type(self.low)
            position *= self.dtype.type(self.scale)
        return np.clip(position, -1, self.count, out=position).astype(np.int32) + 1
