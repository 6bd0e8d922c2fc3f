import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data import load_records
from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.mvtec import MvtecLoco
from adcommon.errors import BadValue, MaskMissing, MaskSizeMismatch
from adcommon.io.images import open_mask
from adcommon.testing.downloads import draw_mask, make_download

LOGICAL = "ground_truth/logical_anomalies/004"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return make_download("mvtec_loco", tmp_path / "raw")


def test_the_channels_of_an_image_are_united_and_kept(raw: Path, tmp_path: Path) -> None:
    carry_out(MvtecLoco().plan(raw, tmp_path / "out"))
    root = tmp_path / "out/pushpins"
    union = Image.open(root / f"{LOGICAL}_mask.png")
    assert union.mode == "L"
    expected = np.zeros((12, 16), dtype=np.uint8)
    expected[2:5, 0:2] = expected[2:5, 3:5] = 255
    np.testing.assert_array_equal(np.asarray(union), expected)
    for name in ("000.png", "001.png"):
        channel = root / "ground_truth_channels/logical_anomalies/004" / name
        assert channel.read_bytes() == (raw / "pushpins" / LOGICAL / name).read_bytes()
    assert json.loads((root / "defects_config.json").read_text())[1]["pixel_value"] == 249
    assert (root / "validation/good/000.png").is_file()


def test_raw_and_prepared_trees_have_the_same_masks(raw: Path, tmp_path: Path) -> None:
    carry_out(MvtecLoco().plan(raw, tmp_path / "out"))
    found = [load_records("mvtec_loco", root, "pushpins").test for root in (raw, tmp_path / "out")]
    assert [record.defect for record in found[0]] == ["good", "logical_anomalies", "structural_anomalies"]
    for one, other in zip(*found, strict=True):
        assert (one.defect, one.label, one.image.name) == (other.defect, other.label, other.image.name)
        if one.mask is not None and other.mask is not None:
            assert one.mask.is_dir()
            assert other.mask.is_dir()
            np.testing.assert_array_equal(open_mask(one.mask), open_mask(other.mask))


def test_the_first_channel_alone_gives_the_masks_of_the_references(raw: Path, tmp_path: Path) -> None:
    plan = carry_out(MvtecLoco(first_channel_only=True).plan(raw, tmp_path / "out"))
    mask = np.asarray(Image.open(tmp_path / f"out/pushpins/{LOGICAL}_mask.png"))
    assert np.argwhere(mask)[[0, -1]].tolist() == [[2, 0], [4, 1]]
    assert not (tmp_path / "out/pushpins/ground_truth_channels").exists()
    assert plan.notes[0] == "masks are the first channel alone"
    (record,) = [
        r for r in load_records("mvtec_loco", tmp_path / "out", "pushpins").test if "logical" in r.defect
    ]
    assert record.mask == tmp_path / f"out/pushpins/{LOGICAL}_mask.png"


@pytest.mark.parametrize(
    ("box", "size", "value", "error", "message"),
    [
        (
            (0, 0, 2, 2),
            (16, 12),
            100,
            BadValue,
            "holds the value 100; defects_config.json explains 248, 249, 255",
        ),
        ((0, 0, 2, 2), (10, 12), 255, MaskSizeMismatch, "another size than its image"),
    ],
)
def test_channels_must_fit(
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    value: int,
    error: type[Exception],
    message: str,
    raw: Path,
    tmp_path: Path,
) -> None:
    draw_mask(raw / "pushpins" / LOGICAL / "001.png", box, size=size, value=value)
    with pytest.raises(error, match=message):
        carry_out(MvtecLoco().plan(raw, tmp_path / "out"))


def test_a_channel_that_fills_the_frame_is_legal(raw: Path, tmp_path: Path) -> None:
    draw_mask(raw / "pushpins" / LOGICAL / "001.png", (0, 0, 16, 12), value=249)
    carry_out(MvtecLoco().plan(raw, tmp_path / "out"))
    assert open_mask(tmp_path / f"out/pushpins/{LOGICAL}_mask.png").all()


def test_an_image_has_one_mask(raw: Path, tmp_path: Path) -> None:
    draw_mask(raw / "pushpins/ground_truth/logical_anomalies/004_mask.png", (0, 0, 1, 1))
    with pytest.raises(BadValue, match="2 masks for one image"):
        MvtecLoco().plan(raw, tmp_path / "out")


def test_missing_parts_are_named(raw: Path, tmp_path: Path) -> None:
    for channel in (raw / "pushpins" / LOGICAL).iterdir():
        channel.unlink()
    with pytest.raises(MaskMissing, match="no channels in"):
        MvtecLoco().plan(raw, tmp_path / "out")
    (raw / "pushpins" / LOGICAL).rmdir()
    with pytest.raises(MaskMissing, match=r"1 anomalous images have no mask: .*004\.png"):
        MvtecLoco().plan(raw, tmp_path / "out")
    (raw / "pushpins/defects_config.json").write_text('{"defects": []}')
    with pytest.raises(BadValue, match="Expected a list of objects with"):
        MvtecLoco().plan(raw, tmp_path / "out")
    (raw / "pushpins/defects_config.json").unlink()
    with pytest.raises(BadValue, match=r"cannot read .*defects_config\.json: FileNotFoundError"):
        MvtecLoco().plan(raw, tmp_path / "out")
