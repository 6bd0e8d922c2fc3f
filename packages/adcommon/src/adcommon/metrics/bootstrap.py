"""How far an AUROC could be elsewhere, had other images of the same kind been tested."""

import numpy as np
from jaxtyping import Float, Int64, Real, Shaped

from adcommon.metrics.inputs import Array, scores_and_labels

DRAWS = 2000
_HELD = 2**20
"""Numbers of a draw held at once: some draws of many images, or many of few."""


def auroc_interval(
    scores: Real[Array, " images"],
    labels: Shaped[Array, " labels"],
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the AUROC: normal and anomalous images are drawn anew, each apart.

    It knows of the choice of test images alone, not of the training's seed; where all images are in order
    it is (1, 1), however few they are.

    Args:
        level: share of the draws inside.

    Returns:
        Lower and upper end; None where the AUROC is undefined.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    found = _aurocs(scores, labels, draws, seed)
    return None if found is None else _ends(found, level)


def auroc_difference_interval(
    scores: Real[Array, " images"],
    others: Real[Array, " images"],
    labels: Shaped[Array, " labels"],
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """As `auroc_interval`, of how much larger the AUROC of the first scores is, on the same drawn images."""
    ours, theirs = (_aurocs(each, labels, draws, seed) for each in (scores, others))
    return None if ours is None or theirs is None else _ends(ours - theirs, level)


def _aurocs(
    scores: Real[Array, " images"], labels: Shaped[Array, " labels"], draws: int, seed: int
) -> Float[np.ndarray, " draws"] | None:
    """The AUROC of every draw; of one seed, draws are of the same images whatever their scores."""
    values, anomalous = scores_and_labels(scores, labels)
    positives, negatives = values[anomalous], values[~anomalous]
    if not len(positives) or not len(negatives):
        return None
    order = np.argsort(negatives)
    rising = negatives[order]
    below, not_above = (np.searchsorted(rising, positives, side=side) for side in ("left", "right"))
    generator = np.random.default_rng(seed)
    at_once = min(draws, max(1, _HELD // max(len(positives), len(negatives))))
    found = []
    for _ in range(0, draws, at_once):
        # How often each image is in a draw; normal ones, counted from the lowest score.
        times = _multiplicities(generator, at_once, len(positives))
        lower = _multiplicities(generator, at_once, len(negatives))[:, order].cumsum(axis=1)
        lower = np.pad(lower, ((0, 0), (1, 0)))
        won = (times * (lower[:, below] + lower[:, not_above])).sum(axis=1) / 2
        found.append(won / (len(positives) * len(negatives)))
    return np.concatenate(found)[:draws]


def _ends(found: Float[np.ndarray, " draws"], level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)


def _multiplicities(
    generator: np.random.Generator, draws: int, count: int
) -> Int64[np.ndarray, "draws count"]:
    drawn = generator.integers(count, size=(draws, count)) + count * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * count).reshape(draws, count)
