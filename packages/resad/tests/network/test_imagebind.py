from pathlib import Path

import pytest
import torch

from adcommon.errors import WeightsNotFound, WrongCheckpoint
from resad.network.imagebind import ImageBindFeatures, ImageTower

SMALL = {"width": 16, "depth": 2, "heads": 2, "embedding": 4}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A checkpoint of all modalities, as the owners publish it, of a small tower."""
    torch.manual_seed(0)
    state = ImageTower(**SMALL).state_dict()
    state["modality_trunks.audio.blocks.0.norm_1.weight"] = torch.ones(3)
    path = tmp_path / "imagebind_small.pth"
    torch.save(state, path)
    return path


def test_other_modalities_are_passed_over_and_missing_entries_named(file: Path) -> None:
    backbone = ImageBindFeatures(str(file), ImageTower(**SMALL), layers=(0, 1))
    maps = backbone(torch.randn(2, 3, 224, 224))
    assert [tuple(level.shape) for level in maps] == [(2, 16, 16, 16)] * 2
    assert backbone.channels == (16, 16)
    with pytest.raises(WrongCheckpoint, match=r"missing: modality_trunks\.vision\.blocks\.2"):
        ImageBindFeatures(str(file), ImageTower(**(SMALL | {"depth": 3})))


def test_the_tower_is_frozen_and_stays_in_evaluation_mode(file: Path) -> None:
    backbone = ImageBindFeatures(str(file), ImageTower(**SMALL), layers=(1,)).train()
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_the_stem_sees_a_still_image_as_two_equal_frames(file: Path) -> None:
    tower = ImageTower(**SMALL)
    tower.load(torch.load(file, weights_only=True), "file")
    image = torch.randn(1, 3, 224, 224)
    stem = tower.get_submodule("modality_preprocessors.vision.rgbt_stem.proj.1")
    frames = stem(image[:, :, None].expand(-1, -1, 2, -1, -1))[:, :, 0]
    kernel = stem.weight.sum(dim=2)
    torch.testing.assert_close(
        frames, torch.nn.functional.conv2d(image, kernel, stride=14), atol=1e-5, rtol=1e-4
    )


def test_full_size_has_the_published_shapes() -> None:
    with torch.device("meta"):
        tower = ImageTower()
    state = tower.state_dict()
    assert state["modality_trunks.vision.blocks.31.mlp.fc1.weight"].shape == (5120, 1280)
    assert state["modality_preprocessors.vision.rgbt_stem.proj.1.weight"].shape == (1280, 3, 2, 14, 14)
    assert state["modality_preprocessors.vision.pos_embedding_helper.pos_embed"].shape == (1, 257, 1280)
    assert state["modality_heads.vision.2.weight"].shape == (1024, 1280)


def test_missing_weights_say_where_they_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsNotFound, match=r"imagebind_huge\.pth"):
        ImageBindFeatures("pretrained", ImageTower(**SMALL))
