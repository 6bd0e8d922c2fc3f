import json
from pathlib import Path

import pytest

from adcommon.cli.list_commands import few_shot, manifest, metadata_app
from adcommon.data import load_splits
from adcommon.data.lists.fewshot import read_references
from adcommon.data.lists.manifest import read_lines, read_manifest
from adcommon.errors import BadValue, UnknownName
from adcommon.testing.trees import make_cifar10, make_mvtec


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_mvtec(tmp_path / "data")


def test_a_dataset_is_listed_with_paths_below_its_folder(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "data/mvtec", categories=("bottle", "cable"))
    out = tmp_path / "lists"
    manifest("mvtec", category=("cable",), form="lines", out=out, data_root=tmp_path / "data")
    lines = [json.loads(line) for name in ("train", "test") for line in (out / f"{name}.json").open()]
    assert {line["clsname"] for line in lines} == {"cable"}
    assert lines[0]["filename"] == "cable/train/good/000.png"
    expected = load_splits("mvtec", tmp_path / "data", ["cable"])
    assert read_lines(out / "train.json", out / "test.json", tmp_path / "data/mvtec") == expected


@pytest.mark.parametrize("words", ["--category all --data", "--class-name bottle cable --data-root"])
def test_a_papers_command_writes_the_lists_that_its_code_reads(tmp_path: Path, words: str) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle", "cable"))
    app = metadata_app("metadata", "Write lists.", per_category=True, out=tmp_path / "lists")
    app([*words.split(), str(tmp_path / "mvtec")], result_action="return_value")
    names = {f"{part}_{name}.json" for part in ("train", "test") for name in ("bottle", "cable", "uni")}
    assert {path.name for path in (tmp_path / "lists").iterdir()} == names


def test_embedded_and_unpacked_datasets_can_be_listed_too(tmp_path: Path) -> None:
    manifest("elpv", form="csv", out=tmp_path / "elpv")
    assert read_manifest(tmp_path / "elpv", load_root("elpv")) == load_splits("elpv", None)
    make_cifar10(tmp_path / "data/CIFAR-10")
    manifest("cifar10", category=("cat",), form="ader", out=tmp_path / "cifar", data_root=tmp_path / "data")
    assert read_manifest(tmp_path / "cifar") == load_splits("cifar10", tmp_path / "data", ["cat"])


def load_root(dataset: str) -> Path:
    return next(iter(load_splits(dataset, None).values())).train[0].image.parent.parent


def test_lists_are_converted_from_any_form_to_any_other(data: Path, tmp_path: Path) -> None:
    splits = load_splits("folder", data)
    manifest(form="ader", out=tmp_path / "ader", data=data)
    manifest(form="csv", out=tmp_path / "csv", data=tmp_path / "ader/meta.json", image_dir=data)
    manifest(form="lines", out=tmp_path / "lines", data=tmp_path / "csv", image_dir=data, per_category=True)
    manifest(
        form="ader",
        out=tmp_path / "again",
        meta_train=tmp_path / "lines/train_uni.json",
        meta_test=tmp_path / "lines/test_uni.json",
        image_dir=data,
    )
    assert (tmp_path / "again/meta.json").read_text() == (tmp_path / "ader/meta.json").read_text()
    assert read_manifest(tmp_path / "again", data) == splits


def test_a_table_can_be_read_wherever_it_was_written(tmp_path: Path) -> None:
    splits = load_splits("synthetic", None, ["plate"])
    manifest("synthetic", category=("plate",), form="csv", out=tmp_path / "far")
    assert load_splits("folder", tmp_path / "far/manifest.csv") == splits
    data = make_mvtec(tmp_path / "near")
    manifest(form="csv", out=data, data=data)
    assert "alpha/train/good/000.png,0,train" in (data / "manifest.csv").read_text()
    data.rename(tmp_path / "moved")
    assert list(load_splits("folder", tmp_path / "moved")) == ["alpha", "beta"]


def test_a_folders_split_depends_on_the_seed_that_is_said(tmp_path: Path) -> None:
    images = make_mvtec(tmp_path / "data", categories=("nut",), train=12) / "nut/train/good"
    tables = []
    for seed in (0, 0, 1):
        manifest(form="csv", out=tmp_path / "lists", data=images, seed=seed)
        tables.append((tmp_path / "lists/manifest.csv").read_text())
    assert tables[0] == tables[1] != tables[2]


def test_what_contradicts_itself_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="both given"):
        manifest("mvtec", form="csv", out=tmp_path / "lists", data=data)
    with pytest.raises(UnknownName, match="did you mean 'alpha'"):
        manifest(form="csv", category=("alpah",), out=tmp_path / "lists", data=data)
    manifest(form="csv", out=data, data=data)
    with pytest.raises(UnknownName, match="did you mean 'alpha'"):
        manifest(form="csv", category=("alpah",), out=tmp_path / "lists", data=data, image_dir=data)
    with pytest.raises(BadValue, match="is no dataset and has no categories"):
        few_shot(str(data / "alpha/train/good"), 2, category=("alpha",))


def test_references_are_drawn_for_each_category_of_a_dataset(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle", "cable"))
    both = ("bottle", "cable")
    few_shot("mvtec", 2, out=tmp_path / "two", data_root=tmp_path, seed=5, category=both)
    few_shot("mvtec", 4, out=tmp_path / "four", data_root=tmp_path, seed=5, category=("bottle",))
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["bottle.txt", "cable.txt"]
    two = read_references(tmp_path / "two/bottle.txt", tmp_path / "mvtec")
    four = read_references(tmp_path / "four/bottle.txt", tmp_path / "mvtec")
    train = load_splits("mvtec", tmp_path, ["bottle"])["bottle"].train
    assert set(four) <= {record.image for record in train}
    assert four[:2] == two
    assert (tmp_path / "two/bottle.txt").read_text().startswith("bottle/train/good/")


def test_references_of_unpacked_images_are_listed_by_absolute_paths(tmp_path: Path) -> None:
    make_cifar10(tmp_path / "CIFAR-10")
    few_shot("cifar10", 2, out=tmp_path / "lists", data_root=tmp_path, category=("dog",))
    assert [path.parent.name for path in read_references(tmp_path / "lists/dog.txt", tmp_path)] == ["dog"] * 2
