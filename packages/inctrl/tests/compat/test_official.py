from contextlib import suppress
from pathlib import Path

import pytest
import torch

from adcommon.errors import UserError, WrongCheckpoint
from adcommon.testing.alterations import sample
from inctrl.checkpoint import load_trained
from inctrl.compat.official import load_checkpoint, save_checkpoint
from inctrl.model import InCTRL
from inctrl.network.clip import build_clip, model_config


@pytest.fixture
def file(with_text, tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "checkpoint_6.pyth"
    save_checkpoint(path, InCTRL(with_text.tower.embed, with_text.patches), with_text.clip)
    return path


def test_the_authors_names_go_out_and_come_back(file: Path, with_text) -> None:
    state = torch.load(file, weights_only=True)
    assert "logit_scale" not in state
    assert {name.split(".")[0] for name in state} >= {"visual", "transformer", "adapter", "diff_head_ref"}
    checkpoint = load_checkpoint(file)
    assert checkpoint.trained.keys() | checkpoint.clip.keys() == state.keys()
    assert torch.equal(checkpoint.clip["visual.proj"], with_text.clip.visual.proj)


def test_a_wrapped_state_is_read_and_strange_entries_are_named(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = torch.load(file, weights_only=True)
    torch.save({"model_state": state | {"extra.weight": torch.zeros(1)}, "epoch": 6}, file)
    assert load_checkpoint(file).trained
    assert "entries without a use: extra.weight" in caplog.text


def test_no_value_of_a_file_is_believed(file: Path, tiny_clip: Path) -> None:
    for _, changed in sample(torch.load(file), 30):
        torch.save(changed, file)
        with suppress(UserError):
            load_trained(file, backbone=str(tiny_clip), layers=(2, 3, 4))


def test_a_checkpoint_that_lacks_something_is_refused(file: Path, tiny_clip: Path) -> None:
    state = torch.load(file, weights_only=True)
    torch.save({name: value for name, value in state.items() if name.startswith("visual")}, file)
    with pytest.raises(WrongCheckpoint, match="lacks adapter and heads"):
        load_checkpoint(file)
    del state["adapter.fc.0.weight"]
    torch.save(state, file)
    with pytest.raises(WrongCheckpoint, match=r"missing: adapter.fc.0.weight"):
        load_trained(file, backbone=str(tiny_clip), layers=(2, 3, 4))


def test_no_code_of_a_file_runs(tmp_path: Path) -> None:
    torch.save({"model_state": Path("x")}, tmp_path / "evil.pyth")
    with pytest.raises(WrongCheckpoint, match="could run code"):
        load_checkpoint(tmp_path / "evil.pyth")


@pytest.mark.slow
def test_the_papers_checkpoint_has_345_entries_and_loads(tmp_path: Path) -> None:
    save_checkpoint(
        tmp_path / "c.pyth", InCTRL(640, 225), build_clip(model_config("ViT-B-16-plus-240"), None)
    )
    assert len(torch.load(tmp_path / "c.pyth", weights_only=True)) == 345
    assert load_trained(tmp_path / "c.pyth").scorer.backbone.tower.grid == (15, 15)
