import json
from pathlib import Path
from typing import Any

import pytest

from adcommon.data import load_records
from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.real_iad import RealIad
from adcommon.errors import BadValue, DatasetNotFound, NotPrepared
from adcommon.testing.downloads import make_download


def rewrite(raw: Path, split: str, entry: int, **values: Any) -> None:
    path = raw / "realiad_jsons/realiad_jsons/usb.json"
    table = json.loads(path.read_text())
    table[split][entry] |= values
    path.write_text(json.dumps(table))


def test_views_are_chosen_and_single_view_lists_are_read(tmp_path: Path) -> None:
    raw = make_download("real_iad", tmp_path / "raw")
    both = RealIad().plan(raw, tmp_path / "out").counts()
    assert both == {"usb/ground_truth/AK": 2, "usb/test/AK": 2, "usb/test/good": 2, "usb/train/good": 2}
    assert set(RealIad(views=("C2",)).plan(raw, tmp_path / "out").counts().values()) == {1}
    (raw / "realiad_jsons/realiad_jsons").rename(raw / "realiad_jsons_sv")
    assert RealIad(split="single_view").plan(raw, tmp_path / "out").counts() == both
    with pytest.raises(DatasetNotFound, match=r"no JSON files in .*realiad_jsons"):
        RealIad().plan(raw, tmp_path / "out")


def test_the_download_says_how_to_prepare_it_and_which_resolutions_it_has(tmp_path: Path) -> None:
    raw = make_download("real_iad", tmp_path / "raw")
    with pytest.raises(NotPrepared, match="ad prepare real_iad --source"):
        load_records("real_iad", tmp_path, "usb")
    with pytest.raises(
        DatasetNotFound, match=r"no folder .*realiad_raw; there: realiad_256.*\n.*--resolution"
    ):
        RealIad(resolution="raw").plan(raw, tmp_path / "out")
    carry_out(RealIad().plan(raw, tmp_path / "Real-IAD_prepared"))
    assert load_records("real_iad", tmp_path, "usb").pixel_truth


@pytest.mark.parametrize(
    ("split", "values", "message"),
    [
        ("test", {"image_path": "../../secret.jpg"}, "a table names a file outside of"),
        ("test", {"image_path": "/etc/hostname"}, "a table names a file outside of"),
        ("test", {"image_path": 7}, "test, entry 1: image_path is 7; expected text"),
        ("test", {"anomaly_class": "../AK", "mask_path": "x"}, "anomaly_class '../AK' cannot be the name"),
        ("test", {"anomaly_class": "BX"}, "test, entry 1: mask_path is None; expected text"),
        ("train", {"anomaly_class": "BX", "mask_path": "x"}, r"anomalous image \(BX\) among the training"),
    ],
)
def test_a_list_that_is_wrong_is_refused_with_its_entry(
    split: str, values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    raw = make_download("real_iad", tmp_path / "raw")
    rewrite(raw, split, 0, **values)
    with pytest.raises(BadValue, match=message):
        RealIad().plan(raw, tmp_path / "out")


def test_files_that_are_not_there_are_counted(tmp_path: Path) -> None:
    raw = make_download("real_iad", tmp_path / "raw")
    rewrite(raw, "train", 0, image_path="OK/S0001/gone.jpg")
    with pytest.raises(DatasetNotFound, match=r"1 of 6 files are missing: .*gone\.jpg"):
        RealIad().plan(raw, tmp_path / "out")
