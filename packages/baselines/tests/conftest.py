"""Small models and drawn datasets for the tests of this package."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adcommon.data import load_splits
from adcommon.testing.trees import make_mvtec
from adcommon.types.records import Split
from baselines.padim import recipes as padim
from baselines.patchcore import recipes as patchcore

TINY = {"dataset": "mvtec", "backbone": "test_efficientnet", "image_size": 64, "batch_size": 4}


@pytest.fixture(scope="session")
def padim_recipe() -> padim.Recipe:
    return replace(padim.OWN, features=20, **TINY)


@pytest.fixture(scope="session")
def patchcore_recipe() -> patchcore.Recipe:
    return replace(patchcore.OWN, **TINY)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    """Two small categories of MVTec AD's layout, in a data root."""
    make_mvtec(tmp_path / "data" / "mvtec_anomaly_detection", categories=("bottle", "cable"), train=6)
    return tmp_path / "data"


@pytest.fixture
def splits(mvtec: Path) -> dict[str, Split]:
    return load_splits("mvtec", mvtec, ("bottle", "cable"))
