import json
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from adcommon.errors import BadValue, UnknownName, UserError, WrongCheckpoint
from adcommon.testing.alterations import sample
from inctrl.network.clip import ClipTower, build_clip, model_config, text_features
from inctrl.network.prompts import sentences


def test_names_and_files_give_a_model_and_others_an_error(tiny_clip: Path, tmp_path: Path) -> None:
    assert model_config("ViT-B-16-plus-240")["vision_cfg"]["width"] == 896
    assert model_config(str(tiny_clip))["embed_dim"] == 16
    with pytest.raises(UnknownName, match="ViT-B-16-plus-240"):
        model_config("ViT-B-16-plus-24")
    with pytest.raises(BadValue, match="no CLIP with two plain transformers"):
        model_config("RN50")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(BadValue, match="cannot read"):
        model_config(str(tmp_path / "broken.json"))


def test_the_tower_gives_its_own_token_and_raw_patches(with_text) -> None:
    clip, tower = with_text.clip, with_text.tower
    images = torch.randn(2, 3, 32, 32)
    token, *levels = tower(images)
    torch.testing.assert_close(token.flatten(1), clip.encode_image(images))
    assert [tuple(level.shape) for level in levels] == [(2, 64, 4, 4)] * 3
    caught = {}
    block = clip.visual.transformer.resblocks[1]
    block.register_forward_hook(lambda module, given, out: caught.update(out=out))
    tower(images)
    torch.testing.assert_close(levels[0].flatten(2).transpose(1, 2), caught["out"][:, 1:])


def test_blocks_that_do_not_exist_are_an_error(with_text) -> None:
    with pytest.raises(BadValue, match="blocks of 'x', 1 to 4"):
        ClipTower(with_text.clip, "x", (4, 5))


def test_the_text_feature_is_the_normalised_mean_of_normalised_ones(with_text) -> None:
    clip = with_text.clip
    text = text_features(clip, "bolt", batch_size=50)
    import open_clip

    tokenizer = open_clip.get_tokenizer("ViT-B-16")
    for row, group in zip(text, sentences("bolt"), strict=True):
        single = torch.stack([clip.encode_text(tokenizer([one]))[0] for one in group[:20]])
        assert single.shape[1] == row.shape[0]
        assert row.norm() == pytest.approx(1.0, abs=1e-5)
    whole = clip.encode_text(tokenizer(sentences("bolt")[1]))
    mean = (whole / whole.norm(dim=1, keepdim=True)).mean(dim=0)
    torch.testing.assert_close(text[1], mean / mean.norm())


def test_weights_fill_every_entry_and_a_wrong_set_is_named(tiny_clip: Path) -> None:
    config = json.loads(tiny_clip.read_text(encoding="utf-8"))
    state = {name: torch.randn_like(value) for name, value in build_clip(config, None).state_dict().items()}
    del state["logit_scale"]  # the authors' files lack it
    filled = build_clip(config, state).state_dict()
    assert all(torch.equal(filled[name], value) for name, value in state.items())
    state["visual.proj"] = torch.zeros(1, 1)
    state.pop("ln_final.bias")
    with pytest.raises(
        WrongCheckpoint, match=r"2 entries differ(.|\n)*missing: ln_final.bias(.|\n)*visual.proj"
    ):
        build_clip(config, state)


def test_nothing_of_clip_learns(with_text) -> None:
    assert not any(parameter.requires_grad for parameter in with_text.clip.parameters())
    assert not with_text.clip.training


@pytest.mark.parametrize(
    ("tower", "changed", "message"),
    [
        ("vision_cfg", {"layers": 10**9}, "layers is 1000000000; expected a whole number from 1 to 1000"),
        ("vision_cfg", {"image_size": 4}, "images of .*4.* pixels in patches of 8"),
        ("vision_cfg", {"width": 10**9}, "with random weights takes|describes no network"),
        ("vision_cfg", {"timm_model_name": "vit_giant"}, "no CLIP with two plain transformers"),
        ("text_cfg", {"context_length": 10**6}, "with random weights takes .* GiB"),
        ("text_cfg", {"vocab_size": 100}, "vocab_size is 100; CLIP's tokeniser has 49408 words"),
        ("text_cfg", {"heads": 0}, "describes no network"),
        ("text_cfg", {"new": 1}, "unknown field 'new'"),
    ],
)
def test_sizes_of_a_file_are_looked_at_before_a_network_is_built(
    tiny_clip: Path, tower: str, changed: dict[str, object], message: str
) -> None:
    config = json.loads(tiny_clip.read_text(encoding="utf-8"))
    config[tower] |= changed
    tiny_clip.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        build_clip(model_config(str(tiny_clip)), None)


def test_no_value_of_a_file_is_believed(tiny_clip: Path) -> None:
    for _, config in sample(json.loads(tiny_clip.read_text(encoding="utf-8")), 40):
        tiny_clip.write_text(json.dumps(config), encoding="utf-8")
        with suppress(UserError):
            ClipTower(build_clip(model_config(str(tiny_clip)), None), "tiny", (1, 2))
