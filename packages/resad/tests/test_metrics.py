from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from adcommon.testing.metrics import assert_golden_columns, drawn
from resad.metrics import resad_aupro, resad_metrics


def columns(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    scores, labels = maps.max(axis=(1, 2)), (masks > 0).any(axis=(1, 2))
    return asdict(resad_metrics(maps, masks, scores, labels, True))


def test_the_columns_have_their_golden_values(golden_metrics: Path) -> None:
    assert_golden_columns(golden_metrics, "resad", columns, atol=5e-6)  # the authors round to 5 digits


def test_aupro_is_one_half_if_at_most_two_points_are_left() -> None:
    maps, masks = drawn()
    inverted = np.where(masks, 0.0, 1.0)
    assert resad_aupro(inverted, masks) == 0.5
    assert resad_metrics(maps, masks, maps.max(axis=(1, 2)), masks.any(axis=(1, 2))).aupro == -1
    with pytest.warns(UserWarning, match="constant or infinite maps"):
        assert np.isnan(resad_aupro(np.zeros_like(maps), masks))


def test_without_anomalies_it_is_nan_with_one_warning() -> None:
    maps, masks = drawn()
    with pytest.warns(UserWarning, match="no anomalous region") as caught:
        assert np.isnan(resad_aupro(maps, np.zeros_like(masks)))
    assert len(caught) == 1
