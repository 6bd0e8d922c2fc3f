import hashlib
import json
from pathlib import Path

import pytest
import torch
from open_clip import pretrained

from adcommon.errors import ChecksumMismatch, UnknownName, WeightsNotFound, WrongCheckpoint
from inctrl.clip_weights import _digits, resolve_clip
from inctrl.network.clip import build_clip

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


@pytest.fixture
def two_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The files of two tags of one model, under names that say nothing; open_clip knows their digits."""
    files, configs = {}, {}
    for epoch in (31, 32):
        files[f"e{epoch}"] = path = tmp_path / f"{epoch}.pt"
        torch.save({"visual.proj": torch.full((2,), epoch)}, path)
        digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        configs[f"e{epoch}"] = {"url": f"https://x/clip-e{epoch}-{digits}.pt"}
    monkeypatch.setattr(pretrained, "get_pretrained_cfg", lambda model, tag: configs.get(tag, {}))
    monkeypatch.setattr(pretrained, "list_pretrained_tags_by_model", lambda model: list(configs))
    return files


def test_the_file_of_another_tag_is_refused_whatever_it_is_called(two_epochs, tmp_path: Path) -> None:
    disguised = two_epochs["e31"].rename(tmp_path / "vit-e32.pt")
    with pytest.raises(ChecksumMismatch, match=r"'e31' of 'ViT' by its SHA-256, not 'e32'.*--clip-tag e31"):
        resolve_clip("ViT", "e32", str(disguised))
    assert resolve_clip("ViT", "e31", str(disguised))["visual.proj"].tolist() == [31, 31]


def test_a_file_of_the_hub_is_told_by_its_folder_and_any_other_with_a_warning(
    two_epochs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert resolve_clip("ViT", "e32", str(two_epochs["e32"]))["visual.proj"].tolist() == [32, 32]
    assert "cannot be told" not in caplog.text
    other = tmp_path / "own.pt"
    torch.save({"visual.proj": torch.zeros(1)}, other)
    assert resolve_clip("ViT", "e32", str(other)).keys() == {"visual.proj"}
    assert "own.pt is not the published file of 'e32'" in caplog.text
    cached = tmp_path / "models--timm--vit.e31" / "snapshots" / "1" / "open_clip_model.pt"
    cached.parent.mkdir(parents=True)
    other.rename(cached)
    with pytest.raises(ChecksumMismatch, match=r"'e31' of 'ViT' by its name, not 'e32'"):
        resolve_clip("ViT", "e32", str(cached))


def test_the_digits_of_all_published_files_are_read_from_their_addresses() -> None:
    assert _digits(NAME, "laion400m_e31") == "8fb26589"
    assert _digits(NAME, "laion400m_e32") == "699c4b84"
    assert len(_digits("ViT-B-16", "openai")) == 64
    assert _digits("ViT-L-14", "metaclip_400m") == ""


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    torch.save({"visual.proj": Path}, tmp_path / "evil.pt")
    with pytest.raises(WrongCheckpoint):
        resolve_clip("tiny", TAG, str(tmp_path / "evil.pt"))
