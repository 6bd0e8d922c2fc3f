from pathlib import Path

import pytest

from adcommon.data import DATASETS, Dataset, load_records
from adcommon.data.prepare.as_published import AsPublished, Oct2017
from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.command import preparers
from adcommon.errors import DatasetNotFound
from adcommon.testing.downloads import draw, make_download


def targets_of(dataset: str, folder: Path) -> set[str]:
    raw = make_download(dataset, folder / dataset)
    return {step.target for step in AsPublished(dataset).plan(raw, folder / "out").steps}


def test_junk_and_enclosing_folders_are_left_behind(tmp_path: Path) -> None:
    targets = {
        step.target
        for step in AsPublished("mvtec").plan(make_download("mvtec", tmp_path / "a"), tmp_path).steps
    }
    assert "bottle/train/good/000.png" in targets
    assert not [target for target in targets if "readme" in target or "DS_Store" in target]
    targets = {
        step.target
        for step in AsPublished("btad").plan(make_download("btad", tmp_path / "b"), tmp_path).steps
    }
    assert {"01/ground_truth/ko/0003.png", "03/ground_truth/ko/0003.bmp", "03/train/ok/0000.bmp"} <= targets
    targets = {
        step.target for step in AsPublished("dtd").plan(make_download("dtd", tmp_path / "c"), tmp_path).steps
    }
    assert "images/banded/banded_0000.jpg" in targets
    assert len(targets) == 4


def test_an_entry_is_all_that_category_folders_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Dataset(
        name="toyparts",
        title="Toy parts",
        categories=("gear",),
        folders=("Toys",),
        pixel_truth=True,
        url="https://example.org",
        licence="CC0",
        citation="Nobody",
    )
    monkeypatch.setitem(DATASETS, "toyparts", entry)
    preparer = preparers()["toyparts"]
    carry_out(preparer.plan(make_download("toyparts", tmp_path / "raw"), tmp_path / "data/Toys"))
    split = load_records("toyparts", tmp_path / "data", "gear")
    assert (len(split.train), len(split.test), split.pixel_truth) == (3, 4, True)


def test_a_download_that_nobody_has_drawn_says_where_to(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"'unknown' look\? Draw a tiny one in .*recent\.py"):
        make_download("unknown", tmp_path / "raw")


def test_only_the_normal_scans_of_oct2017_train(tmp_path: Path) -> None:
    raw = make_download("oct2017", tmp_path / "raw")
    counts = Oct2017().plan(raw, tmp_path / "out").counts()
    assert counts == {"test/CNV": 2, "test/DME": 2, "test/DRUSEN": 2, "test/NORMAL": 2, "train/NORMAL": 2}


def test_the_dataset_may_lie_in_a_folder_of_any_name(tmp_path: Path) -> None:
    raw = make_download("mpdd", tmp_path / "raw")
    (raw / "MPDD").rename(raw / "anything")
    plan = AsPublished("mpdd").plan(raw, tmp_path / "out")
    assert plan.counts()["bracket_black/train/good"] == 3


def test_names_of_classes_may_have_any_case(tmp_path: Path) -> None:
    raw = make_download("oct2017", tmp_path / "raw")
    (raw / "CellData/OCT/train/NORMAL").rename(raw / "CellData/OCT/train/normal")
    assert Oct2017().plan(raw, tmp_path / "out").counts()["train/NORMAL"] == 2


def test_the_folder_val_of_older_versions_is_merged_on_request(tmp_path: Path) -> None:
    raw = make_download("oct2017", tmp_path / "raw")
    draw(raw / "CellData/OCT/val/CNV/CNV-9-9.jpeg")
    plan = Oct2017().plan(raw, tmp_path / "out")
    assert plan.counts()["test/CNV"] == 2
    assert "older version" in plan.notes[-1]
    plan = Oct2017(merge_val=True).plan(raw, tmp_path / "out")
    assert plan.counts()["test/CNV"] == 3
    assert "older version" not in plan.notes[-1]


def test_another_folder_says_what_to_get(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=r"not the download of MPDD: it has no bracket_black/train"):
        AsPublished("mpdd").plan(tmp_path, tmp_path / "out")
