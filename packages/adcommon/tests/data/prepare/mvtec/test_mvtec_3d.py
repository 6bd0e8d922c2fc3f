from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data import load_records
from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.mvtec import Mvtec3d
from adcommon.errors import BadValue, MaskMissing
from adcommon.testing.downloads import draw_mask, make_download


def test_colour_images_and_masks_take_the_layout_of_mvtec_ad(tmp_path: Path) -> None:
    raw = make_download("mvtec_3d", tmp_path / "raw")
    draw_mask(raw / "bagel/test/crack/gt/000.png", (2, 2, 5, 5), value=3)
    plan = carry_out(Mvtec3d().plan(raw, tmp_path / "out"))
    assert plan.counts() == {
        "bagel/ground_truth/crack": 2,
        "bagel/test/crack": 2,
        "bagel/test/good": 2,
        "bagel/train/good": 2,
        "bagel/validation/good": 2,
    }
    mask = np.asarray(Image.open(tmp_path / "out/bagel/ground_truth/crack/000_mask.png"))
    assert set(np.unique(mask)) == {0, 255}
    raw_split, split = (load_records("mvtec_3d", root, "bagel") for root in (raw, tmp_path / "out"))
    assert [(record.label, record.defect, record.image.name) for record in raw_split.test] == [
        (record.label, record.defect, record.image.name) for record in split.test
    ]
    assert raw_split.pixel_truth
    assert len(raw_split.train) == len(split.train) == 2


def test_a_prepared_tree_is_not_prepared_again(tmp_path: Path) -> None:
    carry_out(Mvtec3d().plan(make_download("mvtec_3d", tmp_path / "raw"), tmp_path / "out"))
    with pytest.raises(BadValue, match=r"has no train/good/rgb: .* or it is prepared already"):
        Mvtec3d().plan(tmp_path / "out", tmp_path / "again")


def test_masks_must_be_there_and_those_of_normal_images_empty(tmp_path: Path) -> None:
    raw = make_download("mvtec_3d", tmp_path / "raw")
    draw_mask(raw / "bagel/test/good/gt/001.png", (0, 0, 1, 1))
    with pytest.raises(BadValue, match=r"1 masks of normal images are not empty: .*good/gt/001\.png"):
        Mvtec3d().plan(raw, tmp_path / "out")
    (raw / "bagel/test/good/gt/001.png").unlink()
    (raw / "bagel/test/crack/gt/001.png").unlink()
    with pytest.raises(MaskMissing, match=r"1 anomalous images have no mask: .*crack/rgb/001\.png"):
        Mvtec3d().plan(raw, tmp_path / "out")
