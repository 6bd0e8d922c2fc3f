from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from adcommon.data import load_splits
from adcommon.errors import BadValue
from adcommon.types.records import Split
from inctrl.winclip.evaluate import choose, load_winclip, score_target, whole_map


@pytest.fixture
def target(data_root: Path) -> Split:
    split = load_splits("visa", data_root, ("candle",))["candle"]
    return replace(split, test=split.test[1:5])


def test_a_category_gets_rows_of_both_protocols_and_pictures(tiny_clip, target, tmp_path: Path) -> None:
    winclip = load_winclip(str(tiny_clip), "none", "random", tiles="along")
    found, rows = score_target(winclip, target, shot=2, seed=10, draw="distinct", maps=tmp_path / "maps")
    assert [row["protocol"] for row in rows] == ["standard", "winclip"]
    assert {row["setting"] for row in rows} == {"few-shot"}
    assert len(list((tmp_path / "maps" / "visa" / "candle").glob("*/*.png"))) == 4
    again, _ = score_target(winclip, target, shot=2, seed=10, draw="distinct")
    assert (again.image_scores == found.image_scores).all()
    _, zero = score_target(winclip, target, shot=0, seed=10, draw="distinct")
    assert {row["setting"] for row in zero} == {"zero-shot"}
    with pytest.raises(BadValue, match="--maps needs --shot"):
        score_target(winclip, target, shot=0, seed=10, draw="distinct", maps=tmp_path)


def test_half_precision_stays_near(tiny_clip, target) -> None:
    full, half = (
        load_winclip(str(tiny_clip), "none", "random", tiles="along", precision=precision)
        for precision in ("fp32", "bf16")
    )
    scores = [
        score_target(one, target, shot=1, seed=0, draw="distinct")[0].image_scores for one in (full, half)
    ]
    assert scores[1] == pytest.approx(scores[0], abs=0.05)


def test_tiles_meet_on_the_image_and_overlaps_are_averaged() -> None:
    maps = torch.stack([torch.zeros(4), torch.ones(4)])
    whole = whole_map(maps, [(0, 0, 4, 4), (2, 0, 6, 4)], (2, 2), 6, 4)
    assert whole[0].tolist() == [0, 0, 0.5, 0.5, 1, 1]


def test_wide_images_are_scored_in_tiles(tiny_clip, target, tmp_path: Path) -> None:
    winclip = load_winclip(str(tiny_clip), "none", "random", tiles="along")
    Image.new("RGB", (60, 40), (9, 90, 200)).save(tmp_path / "wide.png")
    encoded, boxes = winclip.encode(tmp_path / "wide.png", windows=True)
    assert len(encoded.pooled) == len(boxes) == 2


def test_winclips_draw_may_repeat_an_image_and_the_distinct_one_never_does() -> None:
    repeated = [choose(4, 4, seed=seed, draw="reference") for seed in range(20)]
    assert any(len(set(places)) < 4 for places in repeated)
    assert all(len(set(choose(4, 4, seed=seed, draw="distinct"))) == 4 for seed in range(20))
    with pytest.raises(BadValue, match="there are 4 normal images, expected at most --shot 4"):
        choose(4, 5, seed=0, draw="reference")
