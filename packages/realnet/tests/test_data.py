from dataclasses import replace
from pathlib import Path

import pytest

from adcommon.data import load_splits
from adcommon.data.lists.manifest import write_manifest
from adcommon.errors import UnknownName
from adcommon.training.settings import Settings
from realnet.data import find_splits, on_own_images


def test_lists_give_the_images_of_the_folders(mvtec: Path, tiny, tmp_path: Path) -> None:
    scanned = load_splits("mvtec", mvtec, ("bottle", "cable"))
    root = mvtec / "mvtec_anomaly_detection"
    write_manifest("lines", tmp_path, scanned, root, per_category=True)
    recipe = replace(
        tiny, meta_train=tmp_path / "train_uni.json", meta_test=tmp_path / "test_uni.json", image_dir=root
    )
    assert find_splits(recipe, mvtec, ()) == scanned
    assert list(find_splits(recipe, mvtec, ("cable",))) == ["cable"]
    with pytest.raises(UnknownName, match="did you mean 'cable'"):
        find_splits(recipe, mvtec, ("cabel",))
    assert find_splits(tiny, mvtec, ("bottle",)) == {"bottle": scanned["bottle"]}


def test_own_images_are_a_dataset_of_their_own(tiny) -> None:
    assert on_own_images(tiny, Settings(data=Path("images"))).dataset == "folder"
    listed = replace(tiny, meta_train=Path("train.json"), meta_test=Path("test.json"))
    assert on_own_images(listed, Settings()).dataset == "folder"
    assert on_own_images(tiny, Settings()) == tiny
