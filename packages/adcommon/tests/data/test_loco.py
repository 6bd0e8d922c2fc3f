from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data import load_records
from adcommon.data.loco import Saturation, channel_value, find_config, group_of, read_saturations
from adcommon.errors import BadValue, UnreadableImage
from adcommon.testing.trees import make_mvtec, make_mvtec_loco
from adcommon.types.records import Record


def test_the_file_says_when_each_value_counts_as_found(tmp_path: Path) -> None:
    make_mvtec_loco(tmp_path)
    assert read_saturations(tmp_path / "defects_config.json") == {
        255: Saturation("spot", 0.5, relative=True),
        254: Saturation("pair", 20.0, relative=False),
    }


def test_absolute_thresholds_count_pixels_of_the_original_size() -> None:
    absolute, relative = Saturation("", 20.0, relative=False), Saturation("", 0.5, relative=True)
    assert (absolute.area(100), absolute.area(100, scale=0.25), absolute.area(3, scale=0.25)) == (20, 5, 3)
    assert (relative.area(100), relative.area(100, scale=0.25)) == (50, 50)
    assert absolute.area(100, scale=0.001) == 1


ENDLESS = '[{"defect_name": "a", "pixel_value": 3, "saturation_threshold": NaN, "relative_saturation": true}]'


@pytest.mark.parametrize("text", ["", "7", "[1]", '[{"pixel_value": 3}]', "[" * 10**5, "\xff", ENDLESS])
def test_what_is_no_configuration_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "defects_config.json").write_bytes(text.encode("latin1"))
    with pytest.raises(BadValue, match=r"cannot read .*defects_config\.json(.|\n)*pixel_value"):
        read_saturations(tmp_path / "defects_config.json")


def test_a_channel_has_one_value(tmp_path: Path) -> None:
    values = np.zeros((4, 4), dtype=np.uint8)
    for value in (0, 7, 9):
        values[0, value % 4] = value
        Image.fromarray(values).save(tmp_path / f"{value}.png")
    assert channel_value(tmp_path / "7.png") == 7
    for name, found in (("0.png", r"\[\]"), ("9.png", r"\[7, 9\]")):
        with pytest.raises(UnreadableImage, match=f"has the values {found} besides 0"):
            channel_value(tmp_path / name)


def test_the_configuration_is_found_only_where_masks_are_channels(tmp_path: Path) -> None:
    make_mvtec_loco(tmp_path / "loco/pushpins", masks="ground_truth_channels")
    make_mvtec(tmp_path / "mvtec", categories=("nut",))
    (tmp_path / "mvtec/nut/defects_config.json").write_text("[]")
    make_mvtec_loco(tmp_path / "raw/pushpins")
    raw = load_records("folder", tmp_path / "raw", "pushpins").test
    assert find_config(raw) == tmp_path / "raw/pushpins/defects_config.json"
    channels = tmp_path / "loco/pushpins/ground_truth_channels"
    moved = [
        replace(record, mask=record.mask and channels / record.defect / record.mask.name) for record in raw
    ]
    assert find_config(moved) == tmp_path / "loco/pushpins/defects_config.json"
    assert find_config(load_records("folder", tmp_path / "mvtec", "nut").test) is None
    assert find_config([record for record in raw if record.label == 0]) is None
    assert find_config([replace(record, defect="bent") for record in raw if record.label]) is None  # AutoVI
    (tmp_path / "raw/pushpins/defects_config.json").unlink()
    assert find_config(raw) is None
    assert [group_of(Record(Path(), "nut", 1, name)) for name in ("structural_anomalies", "bent")] == [
        *("structural", None),
    ]
