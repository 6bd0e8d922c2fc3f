"""Variants of ranking metrics that several references share."""

import warnings

import numpy as np
from jaxtyping import Int64, Real, Shaped

from adcommon.metrics.curves import rank, warn_undefined
from adcommon.metrics.inputs import Array, scores_and_labels


def mirrored_auroc(
    scores: Real[Array, "*shape"], labels: Shaped[Array, "*label_shape"], name: str = "AUROC"
) -> float:
    """max(a, 1 - a) of the exact AUROC a, as RealNet and UniAD report it; warns when it hides inversion."""
    ranking = rank(scores, labels)
    value = ranking.auroc()
    warn_undefined([name], [], len(ranking.positives), ranking.negatives, "score")
    if value < 0.5:
        warnings.warn(
            f"{name} is {value:.4f}, reported as {1 - value:.4f} as the reference does: inverted scores?",
            stacklevel=2,
        )
        return 1 - value
    return value


def distinct_counts(
    scores: Real[Array, " n"], labels: Shaped[Array, " labels"]
) -> tuple[
    Real[np.ndarray, " thresholds"], Int64[np.ndarray, " thresholds"], Int64[np.ndarray, " thresholds"]
]:
    """The distinct scores t, ascending, and the numbers of anomalous and of normal scores >= t."""
    scores, labels = scores_and_labels(scores, labels)
    thresholds = np.unique(scores)
    hits, false = (
        len(group) - np.searchsorted(np.sort(group), thresholds)
        for group in (scores[labels], scores[~labels])
    )
    return thresholds, hits, false
