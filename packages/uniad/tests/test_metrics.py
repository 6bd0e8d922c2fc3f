from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from adcommon.testing.metrics import assert_golden_columns, drawn, quietly
from uniad.metrics import uniad_metrics


def columns(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    return {f"{name}_auc": value for name, value in asdict(uniad_metrics(maps, masks)).items()}


def test_the_columns_have_their_golden_values(golden_metrics: Path) -> None:
    assert_golden_columns(golden_metrics, "uniad", columns)


def test_tensors_equal_arrays() -> None:
    maps, masks = drawn()
    tensors = torch.from_numpy(maps), torch.from_numpy(masks)
    assert quietly(uniad_metrics, *tensors) == quietly(uniad_metrics, maps, masks)
