"""Small untrained models for the tests of this package."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from adcommon.models.backbones import create_trunk
from recontrast.model import ReContrast


@pytest.fixture
def make_model() -> Callable[..., ReContrast]:
    """A model with random weights, always the same; keyword arguments are the constructor's."""

    def make(backbone: str = "test_efficientnet", **options: object) -> ReContrast:
        trunk = create_trunk(backbone, None)
        for layer in trunk.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.ones_(layer.weight)  # timm starts residual branches at zero
        torch.manual_seed(0)
        return ReContrast(trunk, backbone, **options)

    return make


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
