import json
from dataclasses import replace
from pathlib import Path

import pytest

from adcommon.errors import BadValue, DatasetNotFound
from adcommon.training.settings import Settings
from uniad.recipes import CIFAR10, MVTEC
from uniad.sources import find_splits, on_own_images


@pytest.fixture
def lists(mvtec: Path, tmp_path: Path):
    """The recipe with lists of two categories in the authors' form."""
    root = mvtec / "mvtec_anomaly_detection"
    lines: dict[str, list[dict]] = {"train": [], "test": []}
    for path in sorted(root.glob("*/t*/*/*.png")):
        name = path.relative_to(root)
        category, part, defect = name.parts[:3]
        entry = {"filename": str(name), "label": int(defect != "good"), "clsname": category}
        if defect != "good":
            entry["maskname"] = f"{category}/ground_truth/{defect}/{path.stem}_mask.png"
        lines[part].append(entry)
    for part, entries in lines.items():
        (tmp_path / f"{part}.json").write_text("\n".join(map(json.dumps, entries)))
    return replace(
        MVTEC, meta_train=tmp_path / "train.json", meta_test=tmp_path / "test.json", image_dir=root
    )


def test_the_authors_lists_give_the_splits_of_the_tree(lists, mvtec) -> None:
    listed = find_splits(lists, Path("unused"), ())
    scanned = find_splits(MVTEC, mvtec, ("bottle", "cable"))
    assert listed == scanned
    assert list(find_splits(lists, Path("unused"), ("cable",))) == ["cable"]


def test_a_category_that_no_list_has_is_named(lists) -> None:
    with pytest.raises(BadValue, match="no category pill; they have bottle, cable"):
        find_splits(lists, Path("unused"), ("pill",))


def test_own_images_have_no_papers_dataset(lists) -> None:
    assert on_own_images(MVTEC, Settings()).dataset == "mvtec"
    assert on_own_images(MVTEC, Settings(data=Path("images"))).dataset == "folder"
    assert on_own_images(lists, Settings()).dataset == "folder"


def test_cifar_runs_the_papers_splits_unless_told_otherwise(tmp_path, monkeypatch) -> None:
    asked = []

    def load(name, root, categories):
        asked.append(categories)
        return {}

    monkeypatch.setattr("uniad.sources.load_splits", load)
    find_splits(CIFAR10, tmp_path, ())
    find_splits(replace(CIFAR10, normals=("0123",)), tmp_path, ())
    find_splits(CIFAR10, tmp_path, ("cat",))
    assert asked == [("01234", "56789", "02468", "13579"), ("0123",), ("cat",)]


def test_missing_data_are_explained(tmp_path) -> None:
    with pytest.raises(DatasetNotFound, match="mvtec_anomaly_detection"):
        find_splits(MVTEC, tmp_path, ())
