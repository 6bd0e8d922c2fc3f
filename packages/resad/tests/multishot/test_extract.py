import json
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from adcommon.data import load_splits
from adcommon.errors import BadValue, DatasetNotFound, UnknownName
from resad.backbone import build_backbone, make_preprocess
from resad.multishot.extract import extract, from_few_shot_folder, published
from resad.recipes import Recipe


def test_files_hold_image_major_rows_and_lines_their_shapes(
    trees: Path, recipe: Recipe, tmp_path: Path
) -> None:
    backbone = build_backbone(recipe, "random")
    images = from_few_shot_folder(trees / "visa", ["candle"])
    lines = extract(images, tmp_path / "f", backbone, make_preprocess(recipe), recipe, batch_size=4)
    assert lines == ["candle: (6, 64, 8, 8)", "candle: (6, 128, 4, 4)"]
    rows = np.load(tmp_path / "f/candle/layer1.npy")
    assert (rows.shape, rows.dtype) == ((6 * 64, 64), np.float32)
    facts = json.loads((tmp_path / "f/candle/references.json").read_text())
    assert facts["backbone"] == "resnet18"
    assert len(facts["images"]) == 6


def test_all_folders_of_a_few_shot_tree_are_taken(trees: Path) -> None:
    assert list(from_few_shot_folder(trees / "visa", ())) == ["candle", "pcb1"]
    with pytest.raises(DatasetNotFound, match="--published"):
        from_few_shot_folder(trees / "nothing", ())


def test_published_references_are_found_by_name(trees: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = json.loads(files("resad.compat").joinpath("published_references.json").read_text())["4shot"][
        "mvtec"
    ]["bottle"]
    source = trees / "mvtec/bottle/train/good/000.png"
    splits = load_splits("mvtec", trees, ("bottle",))
    with pytest.raises(DatasetNotFound, match=names[0]):
        published("mvtec", 4, splits)
    for name in names[1:]:
        shutil.copy(source, source.with_name(name))
    shutil.copy(source, trees / "mvtec/bottle/test/good" / names[0])
    found = published("mvtec", 4, load_splits("mvtec", trees, ("bottle",)))
    assert [path.name for path in found["bottle"]] == names
    assert "are test images here" in caplog.text


def test_what_was_not_published_is_said(trees: Path) -> None:
    splits = load_splits("mvtec", trees, ("bottle",))
    with pytest.raises(BadValue, match="4 and 8"):
        published("mvtec", 5, splits)
    with pytest.raises(BadValue, match="no 4 references of 'brats'"):
        published("brats", 4, splits)
    with pytest.raises(UnknownName, match="bottle"):
        published("visa", 4, splits)
