from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from adcommon.metrics import aupro, auroc, f1_max
from adcommon.testing.metrics import assert_golden_columns, drawn, quietly, sampled_curve
from recontrast.metrics import (
    recontrast_aupro,
    recontrast_aupro_per_image,
    recontrast_aupro_pooled,
    recontrast_best_f1,
)


def columns(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    scores, labels = maps.max(axis=(1, 2)), (masks > 0).any(axis=(1, 2))
    decision = recontrast_best_f1(scores, labels)
    return {
        "aupro_as_used": recontrast_aupro(maps, masks),
        "aupro_pooled": recontrast_aupro_pooled(maps, masks),
        "pixel_auroc": auroc(maps, masks > 0),
        "image_auroc": auroc(scores, labels),
        "noseg_f1": decision.f1,
        "noseg_acc": decision.accuracy,
        "noseg_thr": decision.threshold,
    }


def test_the_columns_have_their_golden_values(golden_metrics: Path) -> None:
    assert_golden_columns(golden_metrics, "recontrast", columns)


def plainly(maps: np.ndarray, masks: np.ndarray, steps: int = 200) -> float:
    low, high = maps.min(), maps.max()
    pro, fpr = sampled_curve(maps, masks, np.arange(low, high, (high - low) / steps))
    x = fpr[fpr < 0.3]
    return sklearn_metrics.auc(x / x.max(), pro[fpr < 0.3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_those_of_labelling_at_every_threshold(dtype: type) -> None:
    maps, masks = drawn()
    maps = maps.astype(dtype)
    values = recontrast_aupro_per_image(maps, masks)
    assert np.isnan(values[0])
    expected = [plainly(maps[i : i + 1], masks[i : i + 1]) for i in range(1, 5)]
    assert values[1:] == pytest.approx(expected, abs=1e-15)
    assert recontrast_aupro(maps, masks) == pytest.approx(np.mean(expected), abs=1e-15)
    for steps in (50, 200):
        assert recontrast_aupro_pooled(maps, masks, steps) == pytest.approx(
            plainly(maps, masks, steps), abs=1e-15
        )


def test_it_depends_on_the_scale_of_scores_and_the_exact_metric_does_not() -> None:
    maps, masks = drawn()
    steep = np.exp(3 * maps.astype(np.float64))
    assert abs(recontrast_aupro_pooled(steep, masks) - recontrast_aupro_pooled(maps, masks)) > 0.05
    assert aupro(steep, masks) == pytest.approx(aupro(maps, masks), abs=1e-4)


def test_undefined_images_are_named_with_their_reason_in_one_warning() -> None:
    maps, masks = drawn()
    maps[1] = 3
    masks[2] = True
    masks[3] = False
    maps[4][~masks[4]] = maps[4].max() + 1
    with pytest.warns(UserWarning, match="undefined") as caught:
        values = recontrast_aupro_per_image(maps, masks, list("abcde"), np.array([0, 1, 1, 1, 1]))
    assert np.isnan(values).all()
    assert len(caught) == 1
    text = str(caught[0].message)
    assert (
        "b: constant or infinite map; c: mask without a normal pixel; d: empty mask; e: fewer than two"
        in text
    )
    assert np.isnan(quietly(recontrast_aupro, maps, masks))


def test_without_false_positives_below_the_limit_it_is_undefined() -> None:
    mask = np.zeros((1, 8, 8), dtype=bool)
    mask[0, :2] = True
    with pytest.warns(UserWarning, match="image 0: no false positive") as caught:
        assert np.isnan(recontrast_aupro(mask.astype(np.float64), mask))
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("function", "reason"),
    [(recontrast_aupro, "no image is anomalous"), (recontrast_aupro_pooled, "empty mask")],
)
def test_without_anomalies_both_are_nan_with_one_warning(function, reason: str) -> None:
    maps, masks = drawn()
    with pytest.warns(UserWarning, match=reason) as caught:
        assert np.isnan(function(maps, np.zeros_like(masks)))
    assert len(caught) == 1


def test_best_f1_prefers_the_larger_sum_of_precision_and_recall() -> None:
    # 2 of 4 found without false alarm, and 3 of 4 with two: F1 is 2/3 both times, P + R is 1.5 and 1.35.
    labels = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1])
    scores = np.arange(11.0)[::-1]
    decision = recontrast_best_f1(scores, labels)
    assert decision.threshold == 9
    assert (decision.f1, decision.accuracy, decision.specificity) == (pytest.approx(2 / 3), 9 / 11, 1)
    assert f1_max(scores, labels) == (pytest.approx(2 / 3), 6)
    assert np.isnan(recontrast_best_f1(scores, np.ones_like(labels)).specificity)


def test_tensors_equal_arrays() -> None:
    maps, masks = drawn()
    assert recontrast_aupro(torch.from_numpy(maps), torch.from_numpy(masks)) == recontrast_aupro(maps, masks)
