"""Small untrained networks and drawn datasets for the tests of this package."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adcommon.models.checkpoint import Trained
from adcommon.testing.trees import make_mvtec
from inctrl.backbone import Backbone, clip_backbone, make_backbone, make_preprocess
from inctrl.detector import FewShotModel
from inctrl.evaluate import facts
from inctrl.model import InCTRL
from inctrl.network.clip import build_clip
from inctrl.network.features import Features
from inctrl.recipes import OWN, Recipe

TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
"""CLIP's two towers at a size that needs no time; open_clip's form."""

TINY = replace(
    OWN,
    dataset="mvtec",
    test_datasets=("visa",),
    backbone="test_efficientnet",
    layers=(3, 4),
    image_size=64,
    shots=(2,),
    reference_seeds=(0, 1),
    batch_size=4,
    epochs=2,
    steps_per_epoch=3,
    test_batch_size=4,
)
"""A vision-only experiment that takes a second."""


@pytest.fixture
def tiny() -> Recipe:
    return TINY


@pytest.fixture
def tiny_clip(tmp_path: Path) -> Path:
    """A file with the sizes of a tiny CLIP."""
    path = tmp_path / "tiny-clip.json"
    path.write_text(json.dumps(TINY_CLIP))
    return path


@pytest.fixture
def clip_recipe(tiny_clip: Path) -> Recipe:
    """The tiny experiment with a tiny CLIP."""
    return replace(TINY, backbone=str(tiny_clip), layers=(2, 3, 4), image_size=32)


@pytest.fixture(scope="session")
def vision() -> Backbone:
    """A small EfficientNet with random weights, vision-only."""
    return make_backbone(TINY, "random")


@pytest.fixture
def with_text(clip_recipe: Recipe) -> Backbone:
    """A tiny CLIP with random weights."""
    return clip_backbone(clip_recipe, build_clip(TINY_CLIP, None))


@pytest.fixture
def trained(vision: Backbone) -> Trained[FewShotModel, Recipe]:
    """An untrained model, always the same, that passes for a trained one."""
    torch.manual_seed(0)
    model = InCTRL(vision.tower.embed, vision.patches).eval()
    few_shot = FewShotModel(model, vision, make_preprocess(TINY))
    return Trained(few_shot, TINY, facts(TINY, "random", 2), ("bottle",))


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Two categories of MVTec AD to train on, one of VisA to test on, all small and drawn."""
    make_mvtec(tmp_path / "data" / "mvtec_anomaly_detection", categories=("bottle", "cable"), train=4)
    make_mvtec(tmp_path / "data" / "VisA_pytorch" / "1cls", categories=("candle",), train=4, seed=3)
    return tmp_path / "data"


@pytest.fixture
def random_features():
    """Features of random images, always the same."""

    def make(images: int, *, embed: int = 6, patches: int = 4, widths=(5, 5, 5), seed: int = 0) -> Features:
        generator = torch.Generator().manual_seed(seed)
        levels = [torch.randn(images, patches, width, generator=generator) for width in widths]
        return Features(torch.randn(images, embed, generator=generator), levels)

    return make
