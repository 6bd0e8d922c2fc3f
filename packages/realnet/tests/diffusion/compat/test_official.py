import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adcommon.errors import WeightsNotFound, WrongCheckpoint
from realnet.diffusion import store
from realnet.diffusion.compat.official import classes_in, fill, find_weights, read_state, save_checkpoint
from realnet.diffusion.network.classifier import Classifier
from realnet.diffusion.network.unet import UNet
from realnet.diffusion.recipes import CLASSIFIER_RECIPES, DIFFUSION_RECIPES


def network(classes: int, seed: int = 0, kind: str = "unet"):
    torch.manual_seed(seed)
    made = store.build((DIFFUSION_RECIPES if kind == "unet" else CLASSIFIER_RECIPES)["tiny"], classes)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def copied(made: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.state_dict().items()}


@pytest.mark.parametrize(
    ("kind", "heads"),
    [("unet", ["label_emb.weight"]), ("classifier", ["out.2.c_proj.weight", "out.2.c_proj.bias"])],
)
def test_of_imagenets_networks_all_but_the_classes_is_taken_and_the_rest_is_said(
    tmp_path: Path, caplog, kind: str, heads: list[str]
) -> None:
    theirs, own = network(1000, kind=kind), network(3, seed=1, kind=kind)
    before = copied(own)
    torch.save(theirs.state_dict(), tmp_path / "imagenet.pt")
    with caplog.at_level(logging.INFO):
        left = fill(own, read_state(tmp_path / "imagenet.pt"), where="imagenet.pt", new_head=True)
    assert left == heads
    for name, value in own.state_dict().items():
        assert torch.equal(value, before[name] if name in heads else theirs.state_dict()[name])
    for head in heads:
        assert f"left at its random start: {head} is (1000" in caplog.text
    with pytest.raises(WrongCheckpoint, match=heads[0]):
        fill(own, read_state(tmp_path / "imagenet.pt"), where="imagenet.pt", new_head=False)


def test_every_entry_that_does_not_fit_is_named_and_nothing_is_copied() -> None:
    theirs, own = copied(network(3)), network(3, seed=1)
    before = copied(own)
    del theirs["out.0.weight"]
    theirs["time_embed.0.weight"] = torch.zeros(2, 2)
    theirs["extra"] = torch.zeros(1)
    with pytest.raises(WrongCheckpoint) as error:
        fill(own, theirs, where="file.pt", new_head=True)
    for part in (
        "missing: out.0.weight (32,)",
        "shape: time_embed.0.weight is (2, 2)",
        "unexpected: extra (1,)",
    ):
        assert part in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())


def test_a_checkpoint_in_the_authors_layout_comes_back(tmp_path: Path) -> None:
    own = network(3)
    recipe, state = DIFFUSION_RECIPES["tiny"], {"epoch": 7, "rebuild_mse": 0.5}
    save_checkpoint(tmp_path / "ckpt.pth.tar", own, recipe, state)
    content = torch.load(tmp_path / "ckpt.pth.tar", weights_only=True)
    assert (content["epoch"], content["loss"]) == (7, 0.5)
    assert all(name.startswith("module.") for name in content["state_dict"])
    state = read_state(tmp_path / "ckpt.pth.tar")
    assert classes_in(state, UNet, where="") == 3
    again = network(3, seed=1)
    assert fill(again, state, where="", new_head=False) == []
    assert all(torch.equal(value, own.state_dict()[name]) for name, value in again.state_dict().items())


def test_a_file_of_the_other_network_or_of_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongCheckpoint, match=r"no Classifier: it has no entry out\.2\.c_proj\.weight"):
        classes_in(copied(network(3)), Classifier, where="file.pt")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "odd.pt")
    with pytest.raises(WrongCheckpoint, match="holds no state dict"):
        read_state(tmp_path / "odd.pt")


def test_pretrained_files_are_found_or_it_is_said_what_to_download(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AD_WEIGHTS", raising=False)
    with pytest.raises(WeightsNotFound, match=r"https://.*/256x256_diffusion\.pt\n.*pretrain"):
        find_weights("pretrained", "256x256_diffusion.pt")
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain" / "256x256_diffusion.pt").touch()
    assert find_weights("pretrained", "256x256_diffusion.pt") == Path("pretrain/256x256_diffusion.pt")
    monkeypatch.setenv("AD_WEIGHTS", str(tmp_path))
    (tmp_path / "256x256_diffusion.pt").touch()
    assert find_weights("pretrained", "256x256_diffusion.pt") == tmp_path / "256x256_diffusion.pt"
