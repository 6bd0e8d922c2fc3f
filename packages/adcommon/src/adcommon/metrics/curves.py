"""AUROC, average precision and F1-max from scores and labels, exact and tie-aware, and curves for plots."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
from jaxtyping import Float64, Real, Shaped

from adcommon.metrics.inputs import Array, scores_and_labels
from adcommon.metrics.ranking import Ranking


@dataclass(frozen=True)
class ImageResult:
    """Metrics of one score per image; fractions in [0, 1], NaN where undefined."""

    auroc: float
    ap: float
    """Average precision."""
    f1max: float
    threshold: float
    """Smallest score t at which {score >= t} reaches F1-max; chosen with the labels, so an oracle."""
    normal: int
    anomalous: int


@dataclass(frozen=True)
class Curve:
    """A polyline from (0, 0) to (1, 1), for plots."""

    fpr: Float64[np.ndarray, " points"]
    """False-positive rate, ascending."""
    value: Float64[np.ndarray, " points"]
    """True-positive rate (ROC) or mean overlap per region (PRO), ascending."""


def step_curve(
    ranking: Ranking, weights: Float64[np.ndarray, " positives"] | None = None, points: int = 2000
) -> Curve:
    """The cumulative weight of positives over the false-positive rate; without weights the ROC curve.

    Between two positives the curve is flat and over tied scores it is a chord, so its corners are
    the positives only; `thin` keeps at most `points` of them.
    """
    if len(ranking.positives) == 0 or ranking.negatives == 0:
        return Curve(np.full(2, np.nan), np.full(2, np.nan))
    weights = np.ones(len(ranking.positives)) if weights is None else weights
    falling = ranking.positives[::-1]
    last_of_tie = np.append(falling[1:] != falling[:-1], True)
    height = (np.cumsum(weights[::-1]) / weights.sum())[last_of_tie]
    left, right = ranking.above[::-1][last_of_tie], ranking.not_below[::-1][last_of_tie]
    fpr = np.stack([left, right], axis=1).ravel() / ranking.negatives
    value = np.stack([np.append(0.0, height[:-1]), height], axis=1).ravel()
    return thin(Curve(np.concatenate([[0.0], fpr, [1.0]]), np.concatenate([[0.0], value, [1.0]])), points)


def thin(curve: Curve, points: int) -> Curve:
    """The same polyline with at most `points` corners, splitting first where most area would be lost.

    A piece is left alone once the largest triangle between its chord and a corner is below 1e-4 / (2 points);
    if all pieces are, the area under the whole curve is off by less than 1e-4.
    """
    x, y = curve.fpr, curve.value
    small = 1e-4 / (2 * points)

    def push(start: int, end: int) -> None:
        if end - start > 1:
            inner = slice(start + 1, end)
            run, rise = x[end] - x[start], y[end] - y[start]
            triangles = np.abs((x[inner] - x[start]) * rise - (y[inner] - y[start]) * run) / 2
            corner = int(np.argmax(triangles))
            area = float(triangles[corner])
            if area > small:
                heappush(pieces, (-area, start, start + 1 + corner, end))

    pieces: list[tuple[float, int, int, int]] = []
    kept = [0, len(x) - 1]
    push(*kept)
    while pieces and len(kept) < points:
        _, start, corner, end = heappop(pieces)
        kept.append(corner)
        push(start, corner)
        push(corner, end)
    kept.sort()
    return Curve(x[kept], y[kept])


def rank(scores: Real[Array, "*shape"], labels: Shaped[Array, "*label_shape"]) -> Ranking:
    """The ranking behind every metric of this module; scores and labels are checked here."""
    scores, labels = scores_and_labels(scores, labels)
    return Ranking.of(np.sort(scores[labels]), [scores[~labels]])


def auroc(scores: Real[Array, "*shape"], labels: Shaped[Array, "*label_shape"]) -> float:
    """Area under the ROC curve: the probability that an anomalous score exceeds a normal one.

    AUROC = (1 / P N) sum over anomalous i and normal j of [s_i > s_j] + [s_i = s_j] / 2.

    >>> auroc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1]))
    0.875
    """
    ranking = rank(scores, labels)
    value = ranking.auroc()
    warn_undefined(["AUROC"], [], len(ranking.positives), ranking.negatives, "score")
    warn_inverted("AUROC", value)
    return value


def average_precision(scores: Real[Array, "*shape"], labels: Shaped[Array, "*label_shape"]) -> float:
    """AP = sum over distinct thresholds, descending, of the gain in recall times the precision."""
    ranking = rank(scores, labels)
    warn_undefined([], ["AP"], len(ranking.positives), ranking.negatives, "score")
    return ranking.average_precision()


def f1_max(scores: Real[Array, "*shape"], labels: Shaped[Array, "*label_shape"]) -> tuple[float, float]:
    """Best F1 = 2 TP / (P + TP + FP) of {score >= t} over all t, and the smallest t that reaches it."""
    ranking = rank(scores, labels)
    warn_undefined([], ["F1-max"], len(ranking.positives), ranking.negatives, "score")
    return ranking.f1_max()


def image_metrics(scores: Real[Array, " images"], labels: Shaped[Array, " labels"]) -> ImageResult:
    """AUROC, AP and F1-max of image scores; the label comes from the folder or list, not from the mask."""
    ranking = rank(scores, labels)
    result = ImageResult(
        ranking.auroc(),
        ranking.average_precision(),
        *ranking.f1_max(),
        normal=ranking.negatives,
        anomalous=len(ranking.positives),
    )
    undefined_without = ["image AUROC"], ["image AP", "image F1-max"]
    warn_undefined(*undefined_without, result.anomalous, result.normal, "image")
    warn_inverted("image AUROC", result.auroc)
    return result


def warn_undefined(
    needs_both: list[str], needs_anomalous: list[str], anomalous: int, normal: int, what: str
) -> None:
    """One warning if any of the metrics named is NaN, with the reason.

    Args:
        needs_both: metrics that need normal and anomalous scores.
        needs_anomalous: metrics that need anomalous scores only.
        anomalous: how many there are.
        normal: how many there are.
        what: of what: "score", "image", "pixel".
    """
    if anomalous == 0:
        names = ", ".join(needs_both + needs_anomalous)
        warnings.warn(f"{names} undefined (NaN): none of {normal} {what}s is anomalous", stacklevel=3)
    elif normal == 0 and needs_both:
        names = ", ".join(needs_both)
        warnings.warn(f"{names} undefined (NaN): none of {anomalous} {what}s is normal", stacklevel=3)


def warn_inverted(name: str, value: float) -> None:
    """A warning if an AUROC is worse than chance; nothing is flipped."""
    if value < 0.5:
        warnings.warn(
            f"{name} is {value:.4f}, below 0.5: are the scores inverted? Higher must mean more anomalous.",
            stacklevel=3,
        )


def warn_empty_masks(names: Sequence[str], images: int) -> None:
    """A warning if there are such, of so many images; see `inputs.empty_masks`."""
    if names:
        some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        warnings.warn(
            f"{len(names)} of {images} images are labelled anomalous but have an empty mask at evaluation "
            f"size, so that all their pixels count as normal: {some}",
            stacklevel=3,
        )
