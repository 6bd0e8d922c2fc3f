from dataclasses import replace

import pytest
import torch

from adcommon.errors import WrongCheckpoint
from uniad.checkpoint import load_any
from uniad.compat.official import load_checkpoint, save_checkpoint, to_official
from uniad.recipes import MVTEC


def test_the_authors_file_goes_in_and_out_with_every_entry(make_model, tmp_path) -> None:
    recipe = replace(
        MVTEC,
        backbone="resnet18.tv_in1k",
        strides=(4, 8, 16),
        image_size=64,
        neighbourhood=(3, 3),
        hidden_dim=32,
        heads=4,
        encoder_layers=1,
        decoder_layers=2,
        feedforward=32,
    )
    model = make_model(backbone=recipe.backbone)
    rest = {"backbone.layer4.0.conv1.weight": torch.ones(512, 256, 3, 3)}
    save_checkpoint(tmp_path / "in.pth.tar", model, recipe, epoch=9, rest=rest)
    trained = load_any(tmp_path / "in.pth.tar")
    assert (trained.epoch, trained.recipe, trained.threshold) == (9, recipe, None)
    trained.save_official(tmp_path / "out.pth.tar")
    before, after = (load_checkpoint(tmp_path / f"{name}.pth.tar").state for name in ("in", "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len(after) == len(to_official(model)) + 1


def test_another_folder_is_no_model(tmp_path) -> None:
    with pytest.raises(WrongCheckpoint, match=r"config\.json"):
        load_any(tmp_path)
