from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from adcommon.metrics.variants.rankings import mirrored_auroc
from adcommon.models.anomaly_maps import pooled_max_score
from adcommon.testing.metrics import assert_golden_columns, drawn, quietly, sampled_curve
from realnet.metrics import realnet_pro


def columns(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    scores = pooled_max_score(torch.from_numpy(maps), 16)
    return {
        "image_auc": mirrored_auroc(scores, masks.any(axis=(1, 2))),
        "pixel_auc": mirrored_auroc(maps, masks > 0),
        "pro_auc": realnet_pro(maps, masks),
    }


def test_the_columns_have_their_golden_values(golden_metrics: Path) -> None:
    assert_golden_columns(golden_metrics, "realnet", columns)


def test_filled_holes_count_over_the_unfilled_area() -> None:
    maps, masks = drawn()
    high, low = maps.max(), maps.min()
    thresholds = high - np.arange(1000, dtype=np.float32) * ((high - low) / 1000)
    pro, fpr = sampled_curve(maps, masks, thresholds, filled=True)
    x, y = fpr[fpr <= 0.3], pro[fpr <= 0.3]
    assert realnet_pro(maps, masks) == pytest.approx(
        sklearn_metrics.auc((x - x.min()) / np.ptp(x), y), abs=1e-14
    )
    ring = np.zeros((1, 9, 9), dtype=bool)
    ring[0, 2:7, 2:7] = True
    ring[0, 3:6, 3:6] = False
    bright = np.zeros((1, 9, 9))
    bright[0, 2:7, 2:7] = 1
    bright[0, 0, 0] = 1
    assert realnet_pro(bright + 0.001 * np.arange(9), ring) > 1


def test_without_anomalies_it_is_nan_with_one_warning() -> None:
    maps, masks = drawn()
    with pytest.warns(UserWarning, match="no anomalous region") as caught:
        assert np.isnan(realnet_pro(maps, np.zeros_like(masks)))
    assert len(caught) == 1


def test_tensors_equal_arrays() -> None:
    maps, masks = drawn()
    tensors = torch.from_numpy(maps), torch.from_numpy(masks)
    assert quietly(realnet_pro, *tensors) == quietly(realnet_pro, maps, masks)


def test_a_map_that_separates_perfectly_reaches_one() -> None:
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 2:4, 2:4] = True
    maps = np.where(mask, 1.0, np.linspace(0, 0.5, 64).reshape(1, 8, 8))
    assert realnet_pro(maps, mask) == pytest.approx(1.0)


def test_constant_maps_have_no_curve() -> None:
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 2:4, 2:4] = True
    with pytest.warns(UserWarning, match="one false-positive rate at all thresholds"):
        assert np.isnan(realnet_pro(np.ones((1, 8, 8)), mask))
