from pathlib import Path

import pytest

from adcommon.errors import BadValue, DatasetNotFound
from resad.metrics import ResADResult
from resad.multishot.tables import FIELDS, SHOT_COLUMNS, column, latest_table, read_table, table_text

RESULT = ResADResult(0.9, 0.8, 0.7, float("nan"), float("nan"), float("nan"), -1.0)


def test_what_was_not_measured_is_an_empty_cell_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(table_text({"mono": RESULT}, tuple(FIELDS)))
    assert path.read_text().splitlines()[1] == "mono,0.9,0.8,0.7,,,,-1"
    table = read_table(path)
    assert column(table, "Image AUC") == {"mono": 0.9}
    assert column(table, "Pixel AUC") == {}
    with pytest.raises(BadValue, match="no column 'Pixel XYZ'"):
        column(table, "Pixel XYZ")


def test_the_newest_table_is_that_of_the_highest_epoch(tmp_path: Path) -> None:
    for epoch in (9, 59, 10):
        (tmp_path / f"x_2shot_epoch{epoch}_metrics.csv").write_text(table_text({"a": RESULT}, SHOT_COLUMNS))
    assert latest_table(tmp_path).name == "x_2shot_epoch59_metrics.csv"
    with pytest.raises(DatasetNotFound, match="resad-multishot"):
        latest_table(tmp_path / "nothing")


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadValue, match=r"x\.csv"):
        read_table(tmp_path / "x.csv")
    with pytest.raises(BadValue, match="no table"):
        read_table(tmp_path / "y.csv")
    (tmp_path / "z.csv").write_text("Class Name,Image AUC\na,good\n")
    with pytest.raises(BadValue, match="cannot read"):
        read_table(tmp_path / "z.csv")
