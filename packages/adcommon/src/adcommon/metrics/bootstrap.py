"""How far an AUROC could be elsewhere, had other images of the same kind been tested."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64, Real, Shaped

from adcommon.metrics.inputs import Array, scores_and_labels

DRAWS = 2000
_HELD = 2**20
"""Numbers of a draw held at once: some draws of many images, or many of few."""
Category = tuple[Real[Array, "_"], Shaped[Array, "_"]]
"""Scores and labels of the test images of a category."""


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
    return mean_auroc_interval([(scores, labels)], level=level, draws=draws, seed=seed)


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
    first, second = [(scores, labels)], [(others, labels)]
    return mean_auroc_difference_interval(first, second, level=level, draws=draws, seed=seed)


def mean_auroc_interval(
    categories: Sequence[Category], *, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float] | None:
    """As `auroc_interval`, of the mean over categories, whose images are drawn apart."""
    found = _mean_aurocs(categories, draws, seed)
    return None if found is None else _ends(found, level)


def mean_auroc_difference_interval(
    categories: Sequence[Category],
    others: Sequence[Category],
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """As `auroc_difference_interval`, of means over the same categories."""
    ours, theirs = (_mean_aurocs(each, draws, seed) for each in (categories, others))
    return None if ours is None or theirs is None else _ends(ours - theirs, level)


def _mean_aurocs(categories: Sequence[Category], draws: int, seed: int) -> Float[np.ndarray, " draws"] | None:
    """The mean AUROC of every draw."""
    each = [_aurocs(scores, labels, draws, seed + place) for place, (scores, labels) in enumerate(categories)]
    known = [found for found in each if found is not None]
    return np.mean(known, axis=0) if known and len(known) == len(each) else None


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
