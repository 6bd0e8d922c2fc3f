"""Drawn images and small untrained models for the tests of this package."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.testing.trees import draw_image, make_mvtec
from adcommon.types.records import Record
from realnet.model import RealNet
from realnet.recipes import OWN, Recipe

TINY = replace(
    OWN,
    dataset="mvtec",
    backbone="resnet18.tv_in1k",
    structure=("layer1:64@4", "layer2:64@8"),
    image_size=64,
    afs_batches=2,
    res_blocks=1,
    channel_mult=(1, 2),
    rrs_modes=("max:16", "mean:16"),
    epochs=4,
    batch_size=4,
    test_batch_size=4,
    evaluate_every=2,
    protocol="realnet",
    perlin_scale=3,
    channels_last=False,
)
"""A network of the paper's kind that trains in a second; of layer1 it keeps all channels."""


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


@pytest.fixture(scope="session")
def tiny() -> Recipe:
    return TINY


@pytest.fixture
def make_model() -> Callable[..., RealNet]:
    """A model with random weights, always the same; keyword arguments change the recipe."""

    def make(**changes: object) -> RealNet:
        torch.manual_seed(0)
        return RealNet(replace(TINY, **changes), weights="random")

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
