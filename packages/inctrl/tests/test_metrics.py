from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from adcommon.testing.metrics import assert_golden_columns
from inctrl.metrics import inctrl_metrics, winclip_metrics


def columns(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    result = inctrl_metrics(maps.max(axis=(1, 2)), (masks > 0).any(axis=(1, 2)))
    return {"image_auroc": result.auroc, "image_ap": result.auprc}


def test_the_columns_have_their_golden_values(golden_metrics: Path) -> None:
    assert_golden_columns(golden_metrics, "inctrl", columns)


def test_winclip_measures_a_trapezoid_and_a_grid_of_thresholds() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 50)
    scores = np.round(0.3 * generator.random(50) + 0.05 * labels, 2).astype(np.float32)
    result = winclip_metrics(scores, labels)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, scores)
    assert result.aupr == pytest.approx(sklearn_metrics.auc(recall, precision), abs=1e-12)
    grid = [sklearn_metrics.f1_score(labels, scores > t, zero_division=0) for t in np.arange(0, 1, 0.01)]
    assert result.f1max == pytest.approx(max(grid), abs=1e-12)
    assert result.auroc == inctrl_metrics(scores, labels).auroc
    with pytest.warns(UserWarning, match="none of 50 images is anomalous"):
        assert np.isnan(winclip_metrics(scores, np.zeros(50, dtype=int)).aupr)
