import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.datasets.check import Problem, check
from adcommon.errors import DatasetNotFound, NotPrepared, UnknownName
from adcommon.testing.trees import make_class_folders, make_folder, make_mvtec


def about(problems: list[Problem], words: str) -> Problem:
    found = [problem for problem in problems if words in problem.message]
    assert len(found) == 1, f"{len(found)} problems say '{words}': {[str(problem) for problem in problems]}"
    return found[0]


def test_one_report_names_everything_that_is_wrong(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle",), train=4, test_good=2, test_defect=4)
    bottle = tmp_path / "bottle"
    masks = bottle / "ground_truth/spot"
    (masks / "000_mask.png").unlink()
    Image.new("L", (64, 64)).save(masks / "099_mask.png")
    Image.new("L", (32, 64), 255).save(masks / "001_mask.png")
    Image.new("L", (64, 64)).save(masks / "002_mask.png")
    truncated = bottle / "train/good/003.png"
    truncated.write_bytes(truncated.read_bytes()[:2000])
    shutil.copy(bottle / "train/good/000.png", bottle / "test/good/005.png")
    (bottle / "test/good/.DS_Store").touch()
    (bottle / "train/good/.ipynb_checkpoints").mkdir()
    problems = check("mvtec", tmp_path, ("bottle",))

    assert about(problems, "have no mask").paths == (bottle / "test/spot/000.png",)
    assert about(problems, "belong to no image").paths == (masks / "099_mask.png",)
    mismatch = about(problems, "not the size of their image")
    assert mismatch.paths == (bottle / "test/spot/001.png",)
    assert "64x64" in mismatch.message
    assert "32x64" in mismatch.message
    assert about(problems, "empty mask").paths == (bottle / "test/spot/002.png",)
    unreadable = about(problems, "cannot be read")
    assert unreadable.paths == (truncated,)
    assert "truncated" in unreadable.message
    junk = about(problems, "hidden or system files")
    assert set(junk.paths) == {bottle / "test/good/.DS_Store", bottle / "train/good/.ipynb_checkpoints"}
    leak = about(problems, "same in training and test")
    assert set(leak.paths) == {bottle / "train/good/000.png", bottle / "test/good/005.png"}
    assert about(problems, "train: expected 209 images, found 4").severity == "warning"
    severities = {problem.severity for problem in problems}
    assert severities == {"error", "warning", "note"}


def test_pixels_are_compared_not_files(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle",))
    source = tmp_path / "bottle/test/good/000.png"
    Image.open(source).save(tmp_path / "bottle/test/spot/777.bmp")
    Image.new("L", (64, 64), 255).save(tmp_path / "bottle/ground_truth/spot/777_mask.png")
    contradiction = about(check("mvtec", tmp_path, ("bottle",)), "once normal and once anomalous")
    assert set(contradiction.paths) == {source, tmp_path / "bottle/test/spot/777.bmp"}


def test_missing_categories_are_listed_beside_the_others(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle", "cable"))
    problems = check("mvtec", tmp_path)
    missing = {problem.category for problem in problems if problem.message.startswith("no folder")}
    assert len(missing) == 13
    assert not missing & {"bottle", "cable"}


def test_a_sound_dataset_has_nothing_but_its_counts(tmp_path: Path) -> None:
    make_class_folders(tmp_path / "APTOS")
    problems = check("aptos", tmp_path)
    assert {problem.severity for problem in problems} == {"warning"}
    assert all("expected" in problem.message for problem in problems)
    make_folder(tmp_path / "parts", defects=("scratch",), masks=True)
    assert check("folder", tmp_path / "parts") == []


def test_an_old_version_is_recognised_by_its_folder_val(tmp_path: Path) -> None:
    make_class_folders(tmp_path / "OCT2017")
    (tmp_path / "OCT2017/val").mkdir()
    assert about(check("oct2017", tmp_path), "older version").severity == "warning"


def test_two_masks_for_an_image_are_reported_and_the_other_categories_checked(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle", "cable"))
    masks = tmp_path / "bottle/ground_truth/spot"
    shutil.copy(masks / "000_mask.png", masks / "000.png")
    problems = check("mvtec", tmp_path)
    assert about(problems, "2 masks for one image").category == "bottle"
    assert any(problem.category == "cable" for problem in problems)


def test_embedded_textile_category_is_checked_without_a_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "adcommon.datasets.check.open_image", lambda path, expected_size: np.asarray([hash(path)])
    )
    assert check("textile", None) == []


def test_nothing_to_check_is_an_error_as_for_loading(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match="MVTec AD not found"):
        check("mvtec", tmp_path)
    (tmp_path / "candle/Data/Images/Normal").mkdir(parents=True)
    with pytest.raises(NotPrepared, match="ad prepare visa"):
        check("visa", tmp_path)
    with pytest.raises(UnknownName, match="did you mean"):
        check("viza", tmp_path)


def test_a_long_list_of_files_is_cut_in_the_text_only() -> None:
    problem = Problem("error", "bottle", "broken", tuple(Path(f"{index}.png") for index in range(8)))
    assert str(problem).startswith("error: bottle: broken\n    0.png")
    assert str(problem).endswith("and 3 more")
