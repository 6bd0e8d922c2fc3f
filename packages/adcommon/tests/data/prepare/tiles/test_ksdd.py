from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.tiles import Ksdd
from adcommon.errors import DatasetNotFound, MaskSizeMismatch
from adcommon.testing.downloads import draw, draw_mask, make_download


def test_an_image_becomes_three_tiles_of_which_a_defect_may_mark_two(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    draw(raw / "kos01/Part0.jpg", size=(8, 10), mode="L")
    draw_mask(raw / "kos01/Part0_label.bmp", (2, 2, 5, 4), size=(8, 10), value=7)
    plan = carry_out(Ksdd().plan(raw, tmp_path / "out"))
    assert plan.counts() == {"SDD/ground_truth/defect": 2, "SDD/test/defect": 2, "SDD/test/good": 1}
    pixels = np.asarray(Image.open(raw / "kos01/Part0.jpg").convert("RGB"))
    places = ("test/defect", "test/defect", "test/good")
    for number, (place, rows) in enumerate(
        zip(places, (slice(0, 3), slice(3, 6), slice(6, 10)), strict=True)
    ):
        tile = Image.open(tmp_path / f"out/SDD/{place}/kos01_Part0_{number}.png")
        assert tile.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(tile), pixels[rows])
    masks = [
        Image.open(tmp_path / f"out/SDD/ground_truth/defect/kos01_Part0_{number}_mask.png")
        for number in (0, 1)
    ]
    assert [mask.mode for mask in masks] == ["L", "L"]
    expected = np.zeros((2, 3, 8), dtype=np.uint8)
    expected[0, 2, 2:5] = expected[1, 0, 2:5] = 255
    np.testing.assert_array_equal([np.asarray(mask) for mask in masks], expected)


def test_the_order_is_said_in_the_manifest(tmp_path: Path) -> None:
    plan = Ksdd().plan(make_download("ksdd", tmp_path / "raw"), tmp_path / "out")
    assert plan.notes[0] == "order: by name (folder, image, tile); InCTRL's is that of the disk"


def test_labels_must_be_there_and_fit(tmp_path: Path) -> None:
    raw = make_download("ksdd", tmp_path / "raw")
    draw_mask(raw / "kos02/Part0_label.bmp", (0, 0, 0, 0), size=(9, 10))
    with pytest.raises(MaskSizeMismatch, match=r"Part0\.jpg is 8x10, its label .*Part0_label\.bmp is 9x10"):
        Ksdd().plan(raw, tmp_path / "out")
    (raw / "kos02/Part0_label.bmp").unlink()
    with pytest.raises(DatasetNotFound, match=r"1 of 18 files are missing: .*kos02/Part0_label\.bmp"):
        Ksdd().plan(raw, tmp_path / "out")


@pytest.mark.parametrize("there", [False, True])
def test_another_folder_says_what_to_get(there: bool, tmp_path: Path) -> None:
    if there:
        (tmp_path / "raw").mkdir()
    with pytest.raises(DatasetNotFound, match=r"not the download of KolektorSDD(.|\n)*Get (.|\n)*vicos"):
        Ksdd().plan(tmp_path / "raw", tmp_path / "out")
