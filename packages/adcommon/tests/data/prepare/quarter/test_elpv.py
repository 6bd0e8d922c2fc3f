from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data import load_records
from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.quarter import Elpv
from adcommon.data.sources.embedded import elpv_folder
from adcommon.errors import DatasetNotFound


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Eight cells of probability 0, 0, 0, 0, 1/3, 2/3, 1, 1."""
    (tmp_path / "raw/images").mkdir(parents=True)
    rows = []
    for index, probability in enumerate(
        ("0.0", "0.0", "0.0", "0.0", "0.3333333333333333", "0.6666666666666666", "1.0", "1.0")
    ):
        Image.fromarray(np.full((4, 4), 10 * index, dtype=np.uint8)).save(
            tmp_path / f"raw/images/cell{index:04d}.png"
        )
        rows.append(f"images/cell{index:04d}.png  {probability}    {'mono' if index % 2 else 'poly'}")
    (tmp_path / "raw/labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "raw"


def test_certain_cells_are_kept_and_the_others_counted(raw: Path, tmp_path: Path) -> None:
    plan = carry_out(Elpv().plan(raw, tmp_path / "out"))
    assert plan.counts() == {
        "test/good": 1,
        "test/mono": 1,
        "test/poly": 1,
        "train/good": 3,
    }
    assert plan.notes == ("2 cells of uncertain probability were left out",)
    split = load_records("folder", tmp_path / "out", "elpv")
    assert len(split.train) == 3
    assert [record.defect for record in split.test] == ["good", "mono", "poly"]
    assert not split.pixel_truth


def test_uncertain_cells_can_be_included(raw: Path, tmp_path: Path) -> None:
    counts = Elpv(include_uncertain="anomaly").plan(raw, tmp_path / "out").counts()
    assert (counts["test/mono"], counts["test/poly"]) == (2, 2)
    counts = Elpv(min_probability=0.6).plan(raw, tmp_path / "out").counts()
    assert (counts["test/mono"], counts["test/poly"]) == (2, 1)


def test_the_package_gives_the_published_tree(tmp_path: Path) -> None:
    plan = Elpv().plan(elpv_folder(), tmp_path / "out")
    assert plan.counts() == {"test/good": 377, "test/mono": 313, "test/poly": 402, "train/good": 1131}
    assert plan.notes == ("401 cells of uncertain probability were left out",)


def test_missing_cells_are_named(raw: Path, tmp_path: Path) -> None:
    (raw / "images/cell0006.png").unlink()
    with pytest.raises(DatasetNotFound, match=r"1 of 6 files are missing: .*cell0006\.png"):
        Elpv().plan(raw, tmp_path / "out")
