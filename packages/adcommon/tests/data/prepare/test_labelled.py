from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.labelled import Dagm, Ksdd2
from adcommon.errors import DatasetNotFound, UnknownName
from adcommon.testing.downloads import draw, make_download


def test_kolektorsdd2_is_labelled_by_its_masks(tmp_path: Path) -> None:
    plan = carry_out(Ksdd2().plan(make_download("ksdd2", tmp_path / "raw"), tmp_path / "out"))
    assert plan.counts() == {
        "KSDD2/ground_truth/defect": 1,
        "KSDD2/test/defect": 1,
        "KSDD2/test/good": 3,
        "KSDD2/train/good": 3,
    }
    assert (tmp_path / "out/KSDD2/test/defect/20001.png").is_file()
    assert "1 anomalous images of the part to train are left out" in plan.notes[0]


def test_an_image_without_its_label_is_named(tmp_path: Path) -> None:
    raw = make_download("ksdd2", tmp_path / "raw")
    (raw / "train/10002_GT.png").unlink()
    with pytest.raises(DatasetNotFound, match=r"1 of 16 files are missing: .*10002_GT\.png"):
        Ksdd2().plan(raw, tmp_path / "out")


def test_images_of_dagm_with_a_label_are_anomalous(tmp_path: Path) -> None:
    raw = make_download("dagm", tmp_path / "raw")
    draw(raw / "Class2/Train/0001.PNG", mode="L")
    plan = carry_out(Dagm(categories=("Class1",)).plan(raw, tmp_path / "out"))
    assert plan.counts() == {
        "Class1/ground_truth/defect": 1,
        "Class1/test/defect": 1,
        "Class1/test/good": 3,
        "Class1/train/good": 3,
    }
    mask = np.asarray(Image.open(tmp_path / "out/Class1/ground_truth/defect/0005_mask.png"))
    assert int((mask == 255).sum()) == 9
    assert "Class2/train/good" in Dagm().plan(raw, tmp_path / "all").counts()
    with pytest.raises(UnknownName, match="did you mean 'Class1'"):
        Dagm(categories=("class1",)).plan(raw, tmp_path / "out")
