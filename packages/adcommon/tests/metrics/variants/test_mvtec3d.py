from pathlib import Path

import numpy as np
import pytest

from adcommon.metrics import aupro
from adcommon.metrics.variants.mvtec3d import mvtec3d_evaluation_aupro_100
from adcommon.testing.metrics import assert_golden_columns, drawn


def test_it_has_its_golden_values(golden_metrics: Path) -> None:
    assert_golden_columns(
        golden_metrics,
        "mvtec3d",
        lambda maps, masks: {"evaluation_aupro_100": mvtec3d_evaluation_aupro_100(maps, masks)},
    )


def test_the_rank_rule_approaches_the_exact_value_without_ties() -> None:
    maps, masks = drawn(images=12, size=64)
    assert mvtec3d_evaluation_aupro_100(maps, masks) == pytest.approx(aupro(maps, masks), abs=5e-3)
    assert mvtec3d_evaluation_aupro_100(np.zeros_like(maps), masks) == 0


def test_without_anomalies_it_is_nan_with_one_warning() -> None:
    maps, masks = drawn()
    with pytest.warns(UserWarning, match="no anomalous region") as caught:
        assert np.isnan(mvtec3d_evaluation_aupro_100(maps, np.zeros_like(masks)))
    assert len(caught) == 1
