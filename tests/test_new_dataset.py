"""docs/new-dataset.md is followed to the letter: its entry, preparer and drawn download work together."""

import re
from pathlib import Path
from typing import Any

import pytest

from adcommon.data import DATASETS, load_records
from adcommon.data.check.dataset import check
from adcommon.data.prepare import command
from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.plan import Preparer
from adcommon.errors import BadValue, DatasetNotFound, NotPrepared
from adcommon.io.images import open_mask

DOC = Path(__file__).parents[1] / "docs/new-dataset.md"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page's Python defines, with its dataset in the catalogue."""
    names: dict[str, Any] = {"__name__": "adcommon.data.prepare.toyparts"}
    for block in re.findall(r"^```python\n(.*?)^```", DOC.read_text("utf-8"), re.M | re.S):
        exec(compile(block, str(DOC), "exec"), names)
    monkeypatch.setitem(DATASETS, "toyparts", names["entry"])
    return names


def test_the_pages_dataset_is_prepared_checked_and_loaded(page: dict[str, Any], tmp_path: Path) -> None:
    page["draw_toyparts"](tmp_path / "raw")
    preparer = page["ToyParts"]()
    assert isinstance(preparer, Preparer)
    with pytest.raises(NotPrepared, match="ad prepare toyparts"):
        load_records("toyparts", tmp_path / "raw", "gear")
    plan = carry_out(preparer.plan(tmp_path / "raw", tmp_path / "data/toyparts_anomaly_detection"))
    assert plan.counts() == {
        "gear/ground_truth/scratch": 1,
        "gear/test/good": 1,
        "gear/test/scratch": 1,
        "gear/train/good": 2,
    }
    split = load_records("toyparts", tmp_path / "data", "gear")
    assert [record.defect for record in split.test] == ["good", "scratch"]
    assert split.test[1].mask is not None
    assert open_mask(split.test[1].mask).sum() == 28  # the centres of pixels inside the triangle
    assert [p for p in check("toyparts", tmp_path / "data", ("gear",)) if p.severity == "error"] == []


def test_what_is_wrong_with_the_pages_download_is_said(page: dict[str, Any], tmp_path: Path) -> None:
    page["draw_toyparts"](tmp_path)
    table = tmp_path / "split.csv"
    rows = table.read_text("utf-8")
    table.write_text(rows.replace("0001.png,train", "0001.png,trian"), "utf-8")
    with pytest.raises(BadValue, match=r"split\.csv, line 3: part is 'trian'"):
        page["ToyParts"]().plan(tmp_path, tmp_path / "out")
    table.write_text(rows, "utf-8")
    (tmp_path / "images/gear/front/0003.json").unlink()
    with pytest.raises(DatasetNotFound, match=r"0003\.json"):
        page["ToyParts"]().plan(tmp_path, tmp_path / "out")


def test_the_page_names_what_there_is() -> None:
    text = DOC.read_text("utf-8")
    root = DOC.parents[1] / "packages/adcommon/src/adcommon"
    for path in re.findall(r"`((?:data|testing|catalog|sources)/[\w/]+\.py)`", text):
        assert (root / path).exists() or (root / "data" / path).exists(), path
    for path in re.findall(r"((?:tests|packages)/[\w/]+\.py)\b", text):
        assert (DOC.parents[1] / path).exists(), path
    assert "`OWN`" in text
    assert command.OWN
