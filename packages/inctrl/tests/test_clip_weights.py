import hashlib
import json
from pathlib import Path

import pytest
import torch
from open_clip import pretrained

from adcommon.errors import ChecksumMismatch, UnknownName, WeightsNotFound, WrongCheckpoint
from inctrl.clip import build_clip
from inctrl.clip_weights import resolve_clip

NAME, TAG = "ViT-B-16-plus-240", "laion400m_e32"


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("AD_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_file_gives_its_tensors_with_or_without_a_wrapper(tiny_clip: Path, tmp_path: Path) -> None:
    state = build_clip(json.loads(tiny_clip.read_text()), None).state_dict()
    torch.save(state, tmp_path / "plain.pt")
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "wrapped.pt"
    )
    for name in ("plain.pt", "wrapped.pt"):
        read = resolve_clip("tiny", TAG, str(tmp_path / name))
        assert read.keys() == state.keys()
        assert all(torch.equal(read[key], value) for key, value in state.items())


def test_missing_weights_say_which_file_belongs_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AD_WEIGHTS", str(tmp_path / "weights"))
    with pytest.raises(WeightsNotFound, match=r"e32-699c4b84\.pt(.|\n)*weights(.|\n)*--weights FILE"):
        resolve_clip(NAME, TAG)
    with pytest.raises(WeightsNotFound, match="no weights file"):
        resolve_clip(NAME, TAG, str(tmp_path / "nowhere.pt"))
    with pytest.raises(UnknownName, match="did you mean 'laion400m_e32'"):
        resolve_clip(NAME, "laion400m_e3")
    with pytest.raises(WeightsNotFound, match="has no published weights"):
        resolve_clip("own.json", TAG)


def test_epoch_32_is_taken_by_its_file_and_checked_by_its_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AD_WEIGHTS", str(tmp_path))
    other = tmp_path / "vit_b_16_plus_240-laion400m_e32-699c4b84.pt"
    torch.save({"visual.proj": torch.zeros(1)}, other)  # such as the weights of epoch 31 under this name
    with pytest.raises(ChecksumMismatch, match="expected 699c4b84"):
        resolve_clip(NAME, TAG)


def test_a_file_with_the_right_digits_is_found_in_the_folder(tmp_path: Path, monkeypatch) -> None:
    torch.save({"visual.proj": torch.ones(2)}, tmp_path / "raw.pt")
    digits = hashlib.sha256((tmp_path / "raw.pt").read_bytes()).hexdigest()[:8]
    (tmp_path / "raw.pt").rename(tmp_path / f"clip-{digits}.pt")
    monkeypatch.setenv("AD_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(
        pretrained, "get_pretrained_cfg", lambda model, tag: {"url": f"https://x/clip-{digits}.pt"}
    )
    assert resolve_clip(NAME, TAG)["visual.proj"].tolist() == [1, 1]


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    torch.save({"visual.proj": Path}, tmp_path / "evil.pt")
    with pytest.raises(WrongCheckpoint):
        resolve_clip("tiny", TAG, str(tmp_path / "evil.pt"))
