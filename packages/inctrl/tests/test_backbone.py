from dataclasses import replace

import pytest
import torch

from adcommon.errors import BadValue
from inctrl.backbone import clip_backbone, make_backbone, make_preprocess
from inctrl.recipes import MVTEC


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
    assert list(backbone.text(["a", "b", "a"])) == ["a", "b"]
    assert asked == ["a", "b"]


def test_the_digest_is_of_all_frozen_values_but_the_scale(with_text, vision) -> None:
    before = with_text.digest()
    with torch.no_grad():
        with_text.clip.logit_scale += 1
        assert with_text.digest() == before
        with_text.clip.text_projection[0, 0] += 1
    assert with_text.digest() != before
    assert vision.digest() == vision.digest()


def test_images_have_the_size_that_clip_reads(clip_recipe, with_text) -> None:
    with pytest.raises(BadValue, match="reads images of 32 pixels"):
        clip_backbone(replace(clip_recipe, image_size=64), with_text.clip)


def test_the_papers_preprocessing_is_clips() -> None:
    preprocess = make_preprocess(MVTEC)
    assert (preprocess.size, preprocess.fit, preprocess.rgb) == (240, "short_side", "last")
    assert preprocess.mean[0] == pytest.approx(0.48145466)
    assert make_preprocess(MVTEC, 32).size == 32
