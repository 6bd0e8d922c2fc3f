"""Metrics as InCTRL (arXiv 2403.06495) computes them, and its WinCLIP baseline's; both score images only."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Real, Shaped

from adcommon.metrics.curves import rank, warn_undefined
from adcommon.metrics.inputs import Array, as_numpy, binary_labels
from adcommon.metrics.variants.overlaps import area_under
from adcommon.metrics.variants.rankings import distinct_counts


@dataclass(frozen=True)
class InCTRLResult:
    """InCTRL's columns; fractions."""

    auroc: float
    auprc: float
    """Average precision: steps, not the trapezoid of `WinCLIPResult`."""


@dataclass(frozen=True)
class WinCLIPResult:
    """The columns of the WinCLIP script; fractions."""

    auroc: float
    aupr: float
    """Trapezoid area under the precision-recall curve, which is not average precision."""
    f1max: float
    """Best F1 over the thresholds 0, 0.01, ..., 0.99 only; scores cluster, so it is coarse."""


def inctrl_metrics(scores: Real[Array, " images"], labels: Shaped[Array, " labels"]) -> InCTRLResult:
    """AUROC and average precision of one category; without anomalous images the latter is 0."""
    ranking = rank(scores, labels)
    warn_undefined(["InCTRL AUROC"], [], len(ranking.positives), ranking.negatives, "image")
    return InCTRLResult(ranking.auroc(), ranking.average_precision() if len(ranking.positives) else 0.0)


def winclip_metrics(scores: Real[Array, " images"], labels: Shaped[Array, " labels"]) -> WinCLIPResult:
    """AUROC, trapezoid AUPR and grid F1 of one category; prediction is score > t."""
    ranking = rank(scores, labels)
    warn_undefined(
        ["WinCLIP AUROC"], ["WinCLIP AUPR, F1-max"], len(ranking.positives), ranking.negatives, "image"
    )
    if len(ranking.positives) == 0:
        return WinCLIPResult(float("nan"), float("nan"), float("nan"))
    _, hits, false = distinct_counts(scores, labels)
    precision = np.append(hits / (hits + false), 1.0)
    recall = np.append(hits / hits[0], 0.0)
    grid = np.arange(0.0, 1.0, 0.01)
    flagged = as_numpy(scores)[:, None] > grid
    found = flagged[binary_labels(labels)].sum(axis=0)
    f1 = 2 * found / (hits[0] + flagged.sum(axis=0))
    return WinCLIPResult(ranking.auroc(), area_under(recall, precision), float(f1.max()))
