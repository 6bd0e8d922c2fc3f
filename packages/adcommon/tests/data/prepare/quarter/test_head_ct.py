from pathlib import Path

import pytest

from adcommon.data.prepare.quarter import HeadCt, read_labels
from adcommon.errors import BadValue, DatasetNotFound
from adcommon.testing.downloads import make_download


@pytest.mark.parametrize(
    "header", ["id, hemorrhage", "id,hemorrhage", "\ufeffid, hemorrhage ", "hemorrhage,id"]
)
def test_blanks_and_order_of_the_header_do_not_matter(header: str, tmp_path: Path) -> None:
    rows = ["1, 0", "0,7"] if header == "hemorrhage,id" else ["0, 1", "7,0"]
    (tmp_path / "labels.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    assert read_labels(tmp_path / "labels.csv") == [(0, 1), (7, 0)]


def test_numbers_are_names_of_three_digits_in_one_or_two_folders(tmp_path: Path) -> None:
    raw = make_download("head_ct", tmp_path / "raw")
    plan = HeadCt().plan(raw, tmp_path / "out")
    assert plan.counts() == {"headct/test/defect": 3, "headct/test/good": 2, "headct/train/good": 3}
    defects = [step.target for step in plan.steps if "defect" in step.target]
    assert defects == [f"headct/test/defect/{number:03d}.png" for number in (1, 4, 7)]
    (raw / "head_ct/head_ct").rename(raw / "images")
    (raw / "head_ct").rmdir()
    (raw / "images").rename(raw / "head_ct")
    assert [step.target for step in HeadCt().plan(raw, tmp_path / "out").steps] == [
        step.target for step in plan.steps
    ]


def test_what_is_wrong_with_the_table_is_named(tmp_path: Path) -> None:
    raw = make_download("head_ct", tmp_path / "raw")
    (raw / "head_ct/head_ct/004.png").unlink()
    with pytest.raises(DatasetNotFound, match=r"1 of 8 files are missing: .*004\.png"):
        HeadCt().plan(raw, tmp_path / "out")
    for text, message in (
        ("id,label\n0,1\n", "expected id and hemorrhage"),
        ("id,hemorrhage\n0,2\n", "line 2: id '0', hemorrhage '2'; expected a number, and 0 or 1"),
        ("id,hemorrhage\n../0,1\n", "line 2: id '../0'"),
        ("id,hemorrhage\n0\n", "line 2: id '0', hemorrhage 'None'"),
    ):
        (raw / "labels.csv").write_text(text)
        with pytest.raises(BadValue, match=message):
            HeadCt().plan(raw, tmp_path / "out")
