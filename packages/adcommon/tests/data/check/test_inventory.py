from pathlib import Path

import pytest

from adcommon.data import DATASETS
from adcommon.data.check.inventory import count_images, describe, found, summarise
from adcommon.data.sources.synthetic import drawn_folders
from adcommon.testing.trees import make_mvtec


def test_images_are_counted_without_masks_junk_and_raw_downloads(tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "MPDD", categories=("tubes",), train=3, test_good=2, test_defect=1)
    (root / "tubes/train/good/.hidden.png").touch()
    (root / "readme.txt").touch()
    for name in ("original", ".cache"):
        (root / name).mkdir()
        (root / name / "0.png").touch()
    assert count_images(root) == 6
    assert found(DATASETS["mpdd"], tmp_path) == f"{root}, 6 images"


def test_embedded_datasets_are_found_and_the_others_are_not(tmp_path: Path) -> None:
    missing = {
        name for name, entry in DATASETS.items() if found(entry, tmp_path).startswith("not found below")
    }
    assert missing == set(DATASETS) - {"elpv", "textile", "synthetic", "folder"}
    assert found(DATASETS["elpv"], tmp_path).endswith(", 2624 images")
    assert found(DATASETS["synthetic"], tmp_path) == "not yet, drawn when it is asked for"


def test_only_the_images_that_were_drawn_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AD_CACHE", str(tmp_path))
    make_mvtec(drawn_folders() / "seed0", categories=("plate",), train=2, test_good=1, test_defect=1)
    make_mvtec(tmp_path / "images", categories=("others",))
    assert found(DATASETS["synthetic"], tmp_path) == f"{drawn_folders()}, 4 images"


def test_batches_of_cifar_10_are_not_counted_as_images(tmp_path: Path) -> None:
    for name in (
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
        "test_batch",
    ):
        (tmp_path / name).touch()
    assert found(DATASETS["cifar10"], tmp_path) == f"{tmp_path}, as batches"


@pytest.mark.parametrize("name", DATASETS)
def test_the_text_has_every_fact(name: str, tmp_path: Path) -> None:
    entry = DATASETS[name]
    text = describe(entry, tmp_path)
    for fact in (entry.licence, entry.url, entry.citation, *entry.categories, *entry.uses.values()):
        assert fact in text
    short = summarise(entry, tmp_path)
    assert short.startswith(name)
    assert len(short.splitlines()) == 2
    assert all(paper in short for paper in entry.papers)
