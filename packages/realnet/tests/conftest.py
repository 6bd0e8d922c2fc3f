"""Drawn images and small untrained models for the tests of this package."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.datasets.loading import AnomalyDataset
from adcommon.preprocess import Preprocess
from adcommon.records import Record
from adcommon.testing.trees import draw_image


@pytest.fixture
def normal_dataset(tmp_path: Path) -> Callable[..., AnomalyDataset]:
    """Normal images as training sees them; keyword arguments are those of `AnomalyDataset`."""

    def make(count: int = 6, size: int = 32, **options: object) -> AnomalyDataset:
        generator, records = np.random.default_rng(0), []
        for number in range(count):
            path = tmp_path / f"normal{number}.png"
            Image.fromarray(draw_image(2 * size, generator)).save(path)
            records.append(Record(path, "alpha", label=0))
        return AnomalyDataset(records, Preprocess(image_size=size), **options)

    return make
