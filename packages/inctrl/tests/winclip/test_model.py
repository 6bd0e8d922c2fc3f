import pytest
import torch

from inctrl.network.clip import text_features
from inctrl.winclip.model import Encoded, encode, judge
from inctrl.winclip.windows import window_patches


@pytest.fixture
def visual(with_text):
    return with_text.clip.visual


def test_a_window_reads_its_own_patches_and_the_class_token_only(visual) -> None:
    images = torch.randn(2, 3, 32, 32)
    encoded = encode(visual, images)
    assert [features.shape[1] for features in encoded.windows] == [9, 4]
    changed = images.clone()
    changed[:, :, -8:, -8:] += 1  # the last patch
    again = encode(visual, changed)
    for side, before, after in zip((2, 3), encoded.windows, again.windows, strict=True):
        touched = (window_patches((4, 4), side) == 15).any(dim=1)
        assert torch.allclose(before[:, ~touched], after[:, ~touched], atol=1e-5)
        assert not torch.allclose(before[:, touched], after[:, touched], atol=1e-3)


def test_images_of_a_batch_do_not_mix(visual) -> None:
    images = torch.randn(2, 3, 32, 32)
    together, alone = encode(visual, images), encode(visual, images[1:])
    torch.testing.assert_close(together.windows[0][1:], alone.windows[0], rtol=1e-4, atol=1e-5)


def test_the_pooled_feature_is_clips_own(visual) -> None:
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encode(visual, images).pooled, visual(images))


def test_a_query_among_its_references_has_a_finite_score_and_nearly_no_map(visual, with_text) -> None:
    text = text_features(with_text.clip, "bolt", semantic=False)
    query, other = (encode(visual, torch.randn(1, 3, 32, 32)) for _ in range(2))
    judged = judge(query, [other, query], text, (4, 4))
    assert 0 <= judged.maps.min() <= judged.maps.max() < 1e-5
    assert judged.score == pytest.approx(float(judged.text.mean()) / 2, abs=1e-5)
    assert judge(query, [other], text, (4, 4)).score > judged.score


def test_zero_shot_is_the_text_score_alone(visual, with_text) -> None:
    text = text_features(with_text.clip, "bolt", semantic=False)
    query = encode(visual, torch.randn(3, 3, 32, 32), windows=False)
    judged = judge(query, [], text, (4, 4))
    assert judged.score == pytest.approx(float(judged.text.mean()))
    assert judged.maps is None


def test_other_numbers_of_tiles_are_compared_with_all_tiles(visual, with_text) -> None:
    text = text_features(with_text.clip, "bolt", semantic=False)
    query = encode(visual, torch.randn(2, 3, 32, 32))
    more = encode(visual, torch.randn(3, 3, 32, 32))
    flat = Encoded(more.pooled, more.windows, more.patches)
    judged = judge(query, [flat], text, (4, 4))
    assert judged.maps.shape == (2, 16)
