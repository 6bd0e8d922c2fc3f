"""Small models, features and trees for the tests of this package."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adcommon.testing.trees import make_mvtec
from resad.model import ResAD
from resad.recipes import OWN, Recipe

CHANNELS = [6, 8]
SIDES = [8, 4]


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Two levels of a small network, few of everything."""
    return replace(
        OWN,
        setting="mvtec_to_visa",
        backbone="resnet18",
        feature_levels=2,
        image_size=32,
        shots=(2, 3),
        num_embeddings=5,
        coupling_layers=2,
        pos_embed_dim=8,
        epochs=2,
        first_stage_epochs=1,
        batch_size=4,
        flow_batch=64,
        train_ref_shot=2,
        residual="square",
        scale_residuals=False,
        exclude_query=True,
        test_batch_size=3,
    )


@pytest.fixture
def make_model(recipe: Recipe) -> Callable[..., ResAD]:
    """An untrained model, always the same; keyword arguments change the recipe."""

    def make(**changed: object) -> ResAD:
        torch.manual_seed(0)
        return ResAD(CHANNELS, replace(recipe, **changed))

    return make


@pytest.fixture
def residuals() -> list[torch.Tensor]:
    """Maps of both levels for three images, never negative."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.rand(3, channels, side, side, generator=generator)
        for channels, side in zip(CHANNELS, SIDES, strict=True)
    ]


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    """Small drawn trees of MVTec AD and VisA, two categories each."""
    make_mvtec(tmp_path / "mvtec", categories=("bottle", "cable"), size=40)
    make_mvtec(tmp_path / "visa", categories=("candle", "pcb1"), size=40, seed=1)
    return tmp_path
