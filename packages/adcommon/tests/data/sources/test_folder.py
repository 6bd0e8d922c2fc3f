import logging
import shutil
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcommon.data import find_categories, load_records
from adcommon.data.lists.manifest import Form, write_manifest
from adcommon.data.sources.splits import quarter_split
from adcommon.errors import BadValue, DatasetNotFound, MaskMissing, UnknownName
from adcommon.testing.trees import make_folder, make_mvtec
from adcommon.types.records import Record


def load(folder: Path, category: str | None = None, seed: int = 0) -> tuple[list[Record], list[Record]]:
    split = load_records("folder", folder, category or find_categories("folder", folder)[0], seed=seed)
    return split.train, split.test


def test_plain_images_are_normal_and_a_quarter_of_them_tests(tmp_path: Path) -> None:
    make_folder(tmp_path / "made", good=20)
    images = (tmp_path / "made/good").rename(tmp_path / "parts")
    assert find_categories("folder", images) == ("parts",)
    train, test = load(images)
    assert (len(train), len(test)) == (15, 5)
    assert {record.label for record in [*train, *test]} == {0}
    expected = sorted(sorted(images.iterdir())[index] for index in quarter_split(20, 0)[1])
    assert [record.image for record in test] == expected


@settings(max_examples=30)
@given(count=st.integers(0, 400), seed=st.integers(0, 2**32 - 1))
def test_the_split_is_a_partition_with_a_quarter_rounded_up(count: int, seed: int) -> None:
    train, test = quarter_split(count, seed)
    assert sorted([*train, *test]) == list(range(count))
    assert len(test) == -(-count // 4)


def test_the_split_depends_on_the_seed_and_on_nothing_else(tmp_path: Path) -> None:
    make_folder(tmp_path / "parts", good=24)
    tests = [[record.image.name for record in load(tmp_path / "parts", seed=seed)[1]] for seed in (0, 0, 1)]
    assert tests[0] == tests[1] != tests[2]


@pytest.mark.parametrize("masks", [False, True])
def test_folders_beside_good_are_defects_and_masks_are_optional(tmp_path: Path, masks: bool) -> None:
    make_folder(tmp_path / "parts", good=8, defects=("scratch", "stain"), masks=masks)
    train, test = load(tmp_path / "parts")
    assert len(train) == 6
    assert [record.defect for record in test] == ["good"] * 2 + ["scratch"] * 3 + ["stain"] * 3
    assert load_records("folder", tmp_path / "parts", "parts").pixel_truth is masks


def test_a_tree_like_mvtec_keeps_its_own_split(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("parts",), train=5, test_good=2, test_defect=4)
    train, test = load(tmp_path / "parts")
    assert (len(train), len(test)) == (5, 6)
    assert load_records("folder", tmp_path / "parts", "parts").pixel_truth


@pytest.mark.parametrize("place", ["train/good", "train"])
def test_training_images_alone_are_split(tmp_path: Path, place: str) -> None:
    make_folder(tmp_path / "made", good=8)
    (tmp_path / "parts" / place).parent.mkdir(parents=True)
    (tmp_path / "made/good").rename(tmp_path / "parts" / place)
    train, test = load(tmp_path / "parts")
    assert (len(train), len(test)) == (6, 2)


def test_test_images_alone_can_be_evaluated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_mvtec(tmp_path, categories=("parts",))
    shutil.rmtree(tmp_path / "parts/train")
    assert find_categories("folder", tmp_path / "parts") == ("parts",)
    train, test = load(tmp_path / "parts")
    assert (len(train), len(test)) == (0, 6)
    assert "no normal training images" in caplog.text


def test_a_folder_of_such_folders_has_several_categories(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("screw",))
    make_folder(tmp_path / "nut", defects=("bent",))
    shutil.copytree(tmp_path / "nut/good", tmp_path / "plain")
    (tmp_path / ".hidden").mkdir()
    assert find_categories("folder", tmp_path) == ("nut", "plain", "screw")
    for category in ("nut", "plain", "screw"):
        train, test = load(tmp_path, category)
        assert {record.category for record in [*train, *test]} == {category}
        assert train
    with pytest.raises(UnknownName, match="did you mean 'screw'"):
        load(tmp_path, "srew")


def test_one_kind_of_test_image_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_folder(tmp_path / "parts")
    with caplog.at_level(logging.WARNING):
        load(tmp_path / "parts")
    assert "no anomalous test images of category 'parts'" in caplog.text


def test_nothing_to_read_is_an_error_that_shows_the_forms(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=r"no images found in (.|\n)*train/good"):
        load(tmp_path)
    with pytest.raises(DatasetNotFound, match="no such folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "parts/train/good").mkdir(parents=True)
    with pytest.raises(DatasetNotFound, match="no images found in"):
        load(tmp_path / "parts")


def test_some_masks_but_not_all_are_an_error(tmp_path: Path) -> None:
    make_folder(tmp_path / "parts", defects=("scratch",), masks=True)
    (tmp_path / "parts/ground_truth/scratch/001_mask.png").unlink()
    with pytest.raises(MaskMissing, match=r"1 anomalous images(.|\n)*without any folder of masks"):
        load(tmp_path / "parts")


@pytest.mark.parametrize("as_file", [False, True])
def test_a_table_takes_the_place_of_folders(tmp_path: Path, as_file: bool) -> None:
    make_folder(tmp_path, good=8, defects=("scratch",), masks=True)
    rows = ["path,label,split,category,mask,defect"]
    rows += [f"good/{index:03d}.png,0,{'train' if index < 5 else 'test'},nut,," for index in range(8)]
    rows += [
        f"scratch/{index:03d}.png,anomalous,,nut,ground_truth/scratch/{index:03d}_mask.png,scratch"
        for index in range(3)
    ]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    data = tmp_path / "manifest.csv" if as_file else tmp_path
    assert find_categories("folder", data) == ("nut",)
    split = load_records("folder", data, "nut")
    assert len(split.train) == 5
    assert [record.defect for record in split.test] == ["good"] * 3 + ["scratch"] * 3
    assert split.pixel_truth


def test_a_table_of_paths_is_a_list_of_normal_images(tmp_path: Path) -> None:
    make_folder(tmp_path / "parts", good=8)
    (tmp_path / "parts/manifest.csv").write_text("image\n" + "\n".join(f"good/{i:03d}.png" for i in range(8)))
    train, test = load(tmp_path / "parts", "parts")
    assert (len(train), len(test)) == (6, 2)
    (tmp_path / "parts/manifest.csv").unlink()
    assert (train, test) == load(tmp_path / "parts", "parts")


@pytest.mark.parametrize("form", get_args(Form))
def test_every_form_of_lists_is_data_of_ones_own(tmp_path: Path, form: Form) -> None:
    make_mvtec(tmp_path / "data")
    splits = {
        name: load_records("folder", tmp_path / "data", name)
        for name in find_categories("folder", tmp_path / "data")
    }
    write_manifest(form, tmp_path / "lists", splits, None)
    for name, split in splits.items():
        listed = load_records("folder", tmp_path / "lists", name)
        assert [record.image for record in listed.train] == [record.image for record in split.train]
        assert [record.label for record in listed.test] == [record.label for record in split.test]
        assert listed.pixel_truth is (form != "inctrl")


def test_a_file_that_is_no_list_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(BadValue, match=r"photo\.png is no list of images"):
        find_categories("folder", tmp_path / "photo.png")
