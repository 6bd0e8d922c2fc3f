import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.tiles import Aitex
from adcommon.errors import BadValue, MaskMissing, MaskSizeMismatch
from adcommon.testing.downloads import draw, draw_mask, make_download


def test_strips_become_squares_and_masks_in_parts_are_united(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = make_download("aitex", tmp_path / "raw")
    with caplog.at_level(logging.WARNING):
        plan = carry_out(Aitex().plan(raw, tmp_path / "out"))
    root = tmp_path / "out/AITEX"
    assert plan.counts() == {
        "AITEX/ground_truth/Broken_yarn": 1,
        "AITEX/ground_truth/Fuzzyball": 2,
        "AITEX/test/Broken_yarn": 1,
        "AITEX/test/Fuzzyball": 2,
        "AITEX/test/good": 2,
        "AITEX/train/good": 6,
    }
    assert [path.name for path in sorted((root / "test/Fuzzyball").iterdir())] == [
        "0044_019_04_0.png",
        "0044_019_04_2.png",
    ]
    strip = np.asarray(Image.open(raw / "Defect_images/Defect_images/0044_019_04.png").convert("RGB"))
    last = np.asarray(Image.open(root / "test/Fuzzyball/0044_019_04_2.png"))
    assert last.shape == (256, 188, 3)
    np.testing.assert_array_equal(last, strip[:, 512:])
    first, second = (
        np.asarray(Image.open(root / f"ground_truth/Fuzzyball/0044_019_04_{number}_mask.png"))
        for number in (0, 2)
    )
    assert set(np.unique(first)) == set(np.unique(second)) == {0, 255}
    assert np.argwhere(first)[[0, -1]].tolist() == [[9, 10], [11, 19]]
    assert np.argwhere(second)[[0, -1]].tolist() == [[9, 690 - 512], [11, 694 - 512]]
    assert "0100_025_08.png left out, because it has no mask" in caplog.text
    assert "left out, because it has no mask: 0100_025_08.png" in plan.notes
    assert "the last tile is narrower than 256 pixels: 0010_006_02.png, 0044_019_04.png" in plan.notes


def test_a_normal_strip_gives_no_more_than_sixteen_tiles(tmp_path: Path) -> None:
    raw = make_download("aitex", tmp_path / "raw")
    draw(raw / "NODefect_images/2306881-210020u/0001_000_02.png", size=(17 * 256, 256), mode="L")
    counts = Aitex().plan(raw, tmp_path / "out").counts()
    assert counts["AITEX/train/good"] + counts["AITEX/test/good"] == 16 + 4


def test_a_missing_mask_can_be_an_error(tmp_path: Path) -> None:
    raw = make_download("aitex", tmp_path / "raw")
    with pytest.raises(MaskMissing, match=r"1 images with defects have no mask(.|\n)*--missing-mask"):
        Aitex(missing_mask="error").plan(raw, tmp_path / "out")


def test_unnested_folders_give_the_same_tree(tmp_path: Path) -> None:
    raw = make_download("aitex", tmp_path / "raw")
    expected = {step.target for step in Aitex().plan(raw, tmp_path / "out").steps}
    for name in ("Defect_images", "Mask_images"):
        (raw / name / name).rename(tmp_path / name)
        (raw / name).rmdir()
        (tmp_path / name).rename(raw / name)
    assert {step.target for step in Aitex().plan(raw, tmp_path / "out").steps} == expected


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    raw = make_download("aitex", tmp_path / "raw")
    masks = raw / "Mask_images/Mask_images"
    draw_mask(masks / "0010_006_02_mask.png", (0, 0, 2, 2), size=(600, 256))
    with pytest.raises(MaskSizeMismatch, match=r"0010_006_02\.png is 700x256, its mask .* is 600x256"):
        Aitex().plan(raw, tmp_path / "out")
    draw_mask(masks / "0010_006_02_mask.png", (0, 0, 2, 2), size=(700, 256))
    unknown = raw / "Defect_images/Defect_images/0001_999_01.png"
    draw(unknown, size=(256, 256))
    draw_mask(masks / "0001_999_01_mask.png", (0, 0, 2, 2), size=(256, 256))
    with pytest.raises(BadValue, match=r"unknown defect code '999' in the name of .*known: 002 Broken_end"):
        Aitex().plan(raw, tmp_path / "out")
    unknown.unlink()
    draw(raw / "NODefect_images/2306881-210020u/0001_000_02.png", size=(512, 200))
    with pytest.raises(BadValue, match=r"0001_000_02\.png is 512x200 pixels; expected strips of height 256"):
        Aitex().plan(raw, tmp_path / "out")
