"""Small untrained models and drawn datasets for the tests of this package."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adcommon.testing.trees import make_mvtec
from uniad.model import UniAD, build
from uniad.recipes import OWN, Recipe

TINY = replace(
    OWN,
    dataset="mvtec",
    backbone="test_efficientnet",
    strides=(4, 8, 16),
    image_size=64,
    neighbourhood=(3, 3),
    hidden_dim=32,
    heads=4,
    encoder_layers=1,
    decoder_layers=2,
    feedforward=32,
    epochs=4,
    lr_step=3,
    batch_size=4,
    test_batch_size=4,
    evaluate_every=2,
    protocol="uniad",
)
"""A network of the paper's kind that trains in a second."""


@pytest.fixture(scope="session")
def tiny() -> Recipe:
    return TINY


@pytest.fixture
def make_model() -> Callable[..., UniAD]:
    """A model with random weights, always the same; keyword arguments change the recipe."""

    def make(**changes: object) -> UniAD:
        torch.manual_seed(0)
        return build(replace(TINY, **changes), weights=None)

    return make


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    """Two small categories of MVTec AD's layout, in a data root."""
    make_mvtec(tmp_path / "data" / "mvtec_anomaly_detection", categories=("bottle", "cable"), train=6)
    return tmp_path / "data"


@pytest.fixture(scope="module")
def shared_mvtec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for all tests of a module, none of which changes the images."""
    folder = tmp_path_factory.mktemp("data")
    make_mvtec(folder / "mvtec_anomaly_detection", categories=("bottle", "cable"), train=6)
    return folder
