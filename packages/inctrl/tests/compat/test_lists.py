import json
from pathlib import Path

import pytest

from adcommon.data.lists.manifest import read_records
from adcommon.errors import DatasetNotFound
from inctrl.compat.lists import scan, write_lists


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


NAMES = ("train/good/b.JPG", "train/good/a.png", "test/good/c.bmp", "test/crack/d.jpeg", "test/crack/e.npy")


def test_all_images_are_listed_whatever_their_suffix_and_arrays_are_not(tmp_path: Path) -> None:
    found = scan(make(tmp_path / "widget", *NAMES), "widget")
    assert [record.image.name for record in found.split.train] == ["a.png", "b.JPG"]
    assert [(record.image.name, record.label) for record in found.split.test] == [("d.jpeg", 1), ("c.bmp", 0)]
    assert found.skipped == 1


def test_the_references_endings_pass_over_others_and_say_so(tmp_path: Path) -> None:
    found = scan(make(tmp_path / "widget", *NAMES), "widget", "reference")
    assert [record.image.name for record in found.split.train] == ["a.png"]
    assert [record.image.name for record in found.split.test] == ["d.jpeg", "e.npy"]
    assert found.skipped == 2


def test_lists_that_were_written_are_read_back(tmp_path: Path) -> None:
    split = scan(make(tmp_path / "data" / "widget", *NAMES), "widget").split
    paths = [*write_lists("train", tmp_path, "widget", split), *write_lists("val", tmp_path, "widget", split)]
    assert [path.name for path in paths] == [
        *("widget_normal.json", "widget_outlier.json", "widget_val_normal.json", "widget_val_outlier.json")
    ]
    assert [len(json.loads(path.read_text())) for path in paths] == [3, 1, 1, 1]
    assert [record.image for record in read_records(paths[:1])][-1].name == "c.bmp"


def test_a_folder_of_another_form_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match="no train/good and no test"):
        scan(tmp_path, "widget")
