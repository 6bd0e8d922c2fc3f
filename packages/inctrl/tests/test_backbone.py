import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from open_clip import pretrained

from adcommon.errors import BadValue, ChecksumMismatch, UnknownName, WeightsNotFound, WrongCheckpoint
from inctrl.backbone import (
    clip_backbone,
    fitted,
    make_backbone,
    make_preprocess,
    published_digits,
    resolve_clip,
)
from inctrl.network.clip import build_clip
from inctrl.recipes import MVTEC, OWN, SMALL, Recipe

NAME, TAG = "ViT-B-16-plus-240", "laion400m_e32"


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("AD_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_timm_network_has_no_text_and_says_so(tiny, caplog: pytest.LogCaptureFixture) -> None:
    backbone = make_backbone(tiny, "random")
    assert backbone.clip is None
    assert backbone.text(["bottle"]) is None
    assert "has no text tower; the text score is left out" in caplog.text


def test_clip_encodes_each_category_once(clip_recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = make_backbone(clip_recipe, "random")
    asked = []

    def encode(clip, category):
        asked.append(category)
        return torch.zeros(2, 3)

    monkeypatch.setattr("inctrl.backbone.text_features", encode)
    assert backbone.text(["a", "b", "a"]).shape == (3, 2, 3)
    assert backbone.text(["b"]).shape == (1, 2, 3)
    assert sorted(asked) == ["a", "b"]


def test_the_digest_is_of_all_frozen_values_but_the_scale(with_text, vision) -> None:
    before = with_text.digest
    with torch.no_grad():
        with_text.clip.logit_scale += 1
        assert replace(with_text).digest == before
        with_text.clip.text_projection[0, 0] += 1
    assert replace(with_text).digest != before
    assert replace(vision).digest == vision.digest


def test_images_have_the_size_that_clip_reads(clip_recipe, with_text) -> None:
    with pytest.raises(BadValue, match="reads images of 32 pixels"):
        clip_backbone(replace(clip_recipe, image_size=64), with_text.clip)


@pytest.mark.parametrize(
    ("base", "backbone", "layers", "size"),
    [
        (OWN, "tf_efficientnet_lite0.in1k", (3, 4, 5), 240),
        (OWN, "convnext_tiny.in12k_ft_in1k", (2, 3, 4), 240),
        (OWN, "vit_small_patch16_224.augreg_in1k", (7, 9, 11), 224),
        (OWN, "ViT-B-16", (7, 9, 11), 224),
        (OWN, NAME, (7, 9, 11), 240),
        (SMALL, "tf_efficientnet_lite0.in1k", (3, 4), 256),
        (SMALL, "convnext_tiny.in12k_ft_in1k", (2, 3), 256),
        (SMALL, "vit_small_patch16_224.augreg_in1k", (10, 11), 224),
    ],
)
def test_layers_and_size_that_nobody_chose_fit_the_backbone(
    base: Recipe, backbone: str, layers: tuple[int, ...], size: int
) -> None:
    recipe = fitted(replace(base, backbone=backbone))
    assert (recipe.layers, recipe.image_size) == (layers, size)
    named = replace(base, backbone=backbone)
    assert fitted(named, ["layers", "image_size"]) == named
    chosen = replace(OWN, backbone=backbone, layers=(1, 2), image_size=96)
    assert fitted(chosen) == chosen


def test_own_images_are_looked_at_as_a_whole() -> None:
    assert make_preprocess(OWN).fit == "stretch"


def test_the_papers_preprocessing_is_clips() -> None:
    preprocess = make_preprocess(MVTEC)
    assert (preprocess.size, preprocess.fit, preprocess.rgb) == (240, "short_side", "last")
    assert preprocess.mean[0] == pytest.approx(0.48145466)
    assert make_preprocess(MVTEC, 32).size == 32


def test_a_file_gives_its_tensors_with_or_without_a_wrapper(tiny_clip: Path, tmp_path: Path) -> None:
    state = build_clip(json.loads(tiny_clip.read_text(encoding="utf-8")), None).state_dict()
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


def test_epoch_32_is_taken_by_its_file_and_checked_by_itspublished_digits(
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
    assert published_digits(NAME, "laion400m_e31") == "8fb26589"
    assert published_digits(NAME, "laion400m_e32") == "699c4b84"
    assert len(published_digits("ViT-B-16", "openai")) == 64
    assert published_digits("ViT-L-14", "metaclip_400m") == ""


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    torch.save({"visual.proj": Path}, tmp_path / "evil.pt")
    with pytest.raises(WrongCheckpoint):
        resolve_clip("tiny", TAG, str(tmp_path / "evil.pt"))


def test_the_layout_changes_rounding_only(tiny, clip_recipe) -> None:
    for recipe in (tiny, clip_recipe):
        images = torch.randn(2, 3, recipe.image_size, recipe.image_size)
        plain, last = (
            make_backbone(replace(recipe, channels_last=on), "random").tower for on in (False, True)
        )
        last.load_state_dict(plain.state_dict())  # a random CLIP is drawn anew
        kernels = [value for value in last.parameters() if value.ndim == 4 and value.shape[1] > 1]
        assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
        for ours, theirs in zip(last(images), plain(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
