import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data.check.dataset import check
from adcommon.data.check.tree import Problem
from adcommon.errors import DatasetNotFound, NotPrepared, UnknownName
from adcommon.testing.trees import (
    make_cifar10,
    make_class_folders,
    make_folder,
    make_mvtec,
    make_mvtec_loco,
)
from adcommon.types.records import Split


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
    assert "64x64" in mismatch.details[0]
    assert "32x64" in mismatch.details[0]
    assert about(problems, "empty mask").paths == (bottle / "test/spot/002.png",)
    unreadable = about(problems, "cannot be read")
    assert unreadable.paths == (truncated,)
    assert "truncated" in str(unreadable)
    junk = about(problems, "hidden or system files")
    assert set(junk.paths) == {bottle / "test/good/.DS_Store", bottle / "train/good/.ipynb_checkpoints"}
    leak = about(problems, "same in training and test")
    assert set(leak.paths) == {bottle / "train/good/000.png", bottle / "test/good/005.png"}
    assert str(about(problems, "train: expected 209 images, found 4")).startswith("warning: bottle: train: ")
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


def test_an_embedded_category_is_checked_without_a_root(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Split] = []

    def look(split: Split, category: str) -> list[Problem]:
        seen.append(split)
        return []

    monkeypatch.setattr("adcommon.data.check.dataset.check_content", look)
    assert check("textile", None) == []
    assert [split.dataset for split in seen] == ["textile"]


def test_nothing_to_check_is_an_error_as_for_loading(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match="MVTec AD not found"):
        check("mvtec", tmp_path)
    (tmp_path / "candle/Data/Images/Normal").mkdir(parents=True)
    with pytest.raises(NotPrepared, match="ad prepare visa"):
        check("visa", tmp_path)
    with pytest.raises(UnknownName, match="did you mean 'visa'"):
        check("viza", tmp_path)
    make_mvtec(tmp_path, categories=("bottle",))
    with pytest.raises(UnknownName, match="did you mean 'bottle'"):
        check("mvtec", tmp_path, ("botle",))


def test_folders_that_look_like_further_categories_are_listed(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle", "botle"))
    (tmp_path / "notes").mkdir()
    extra = about(check("mvtec", tmp_path), "no category of MVTec AD")
    assert (extra.severity, extra.category, extra.paths) == ("warning", "botle", (tmp_path / "botle",))


def test_folders_of_anomalous_images_in_training_do_not_hide_the_rest(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle",))
    shutil.copytree(tmp_path / "bottle/test/spot", tmp_path / "bottle/train/spot")
    (tmp_path / "bottle/ground_truth/spot/000_mask.png").unlink()
    problems = check("mvtec", tmp_path, ("bottle",))
    assert about(problems, "'spot' among the training images").severity == "error"
    assert about(problems, "have no mask").severity == "error"


def test_repeated_images_are_told_from_leaks(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle",))
    good = tmp_path / "bottle/train/good"
    shutil.copy(good / "000.png", good / "900.png")
    repeated = about(check("mvtec", tmp_path, ("bottle",)), "more than once in the same part")
    assert set(repeated.paths) == {good / "000.png", good / "900.png"}


def test_masks_that_are_grey_or_belong_to_normal_images_are_reported(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle",))
    masks = tmp_path / "bottle/ground_truth"
    grey = np.zeros((64, 64), dtype=np.uint8)
    grey[:9] = np.arange(9)[:, None]
    Image.fromarray(grey).save(masks / "spot/000_mask.png")
    (masks / "good").mkdir()
    Image.fromarray(grey * 0).save(masks / "good/000_mask.png")
    Image.fromarray(grey).save(masks / "good/001_mask.png")
    problems = check("mvtec", tmp_path, ("bottle",))
    several = about(problems, "masks are not binary")
    assert set(several.paths) == {tmp_path / f"bottle/test/{name}.png" for name in ("spot/000", "good/001")}
    assert "values 1, 2, 3" in several.details[0]
    marked = about(problems, "normal images have a mask that is not empty")
    assert marked.paths == (tmp_path / "bottle/test/good/001.png",)


def test_images_that_share_a_mask_by_their_stem_are_reported(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle",))
    spot = tmp_path / "bottle/test/spot"
    Image.open(spot / "001.png").save(spot / "000.jpg")
    shared = about(check("mvtec", tmp_path, ("bottle",)), "mask of another image")
    assert set(shared.paths) == {spot / "000.jpg", spot / "000.png"}


def test_pictures_above_the_limit_are_errors_without_a_warning_of_the_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path / "parts", defects=("scratch",))
    Image.new("1", (1200, 1000)).save(tmp_path / "parts/good/large.png")
    monkeypatch.setenv("AD_MAX_MEGAPIXELS", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problems = check("folder", tmp_path / "parts")
    refused = about(problems, "cannot be read")
    assert refused.paths == (tmp_path / "parts/good/large.png",)
    assert "--max-megapixels 2" in str(refused)
    monkeypatch.setenv("AD_MAX_MEGAPIXELS", "2")
    assert not [problem for problem in check("folder", tmp_path / "parts") if problem.severity == "error"]


def test_names_and_links_that_make_trouble_are_reported(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle",))
    good = tmp_path / "bottle/train/good"
    shutil.copy(good / "000.png", good / "000.PNG")
    (good / "009.png").symlink_to(tmp_path / "nowhere.png")
    (good / "loop").symlink_to(good)
    (good / "010.npy").touch()
    (tmp_path / "bottle/license.txt").touch()
    problems = check("mvtec", tmp_path, ("bottle",))
    assert set(about(problems, "differ only in case").paths) == {good / "000.png", good / "000.PNG"}
    assert about(problems, "lead nowhere").paths == (good / "009.png",)
    assert about(problems, "files of an unknown kind, .npy").paths == (good / "010.npy",)
    assert about(problems, "links to folders").paths == (good / "loop",)


def test_channels_are_compared_with_their_configuration(tmp_path: Path) -> None:
    folder = make_mvtec_loco(tmp_path / "pushpins")
    (unused,) = check("folder", folder)
    assert (unused.severity, unused.paths) == ("note", (folder / "validation/good/000.png",))
    channels = folder / "ground_truth/logical_anomalies"
    unknown = np.array(Image.open(channels / "000/000.png")) // 255 * 7
    Image.fromarray(unknown).save(channels / "000/000.png")
    small = np.zeros((64, 64), dtype=np.uint8)
    small[:2, :2] = 254
    Image.fromarray(small).save(channels / "001/001.png")
    problems = check("folder", folder)
    wrong = about(problems, "does not explain")
    assert (wrong.severity, wrong.paths) == ("error", (folder / "test/logical_anomalies/000.png",))
    assert "values 7" in wrong.details[0]
    clipped = about(problems, "smaller than the area at which they saturate")
    assert (clipped.severity, clipped.paths) == ("note", (folder / "test/logical_anomalies/001.png",))
    (folder / "defects_config.json").write_text("[1]")
    assert about(check("folder", folder), "cannot read").severity == "error"
    (folder / "defects_config.json").unlink()
    assert "no sPRO" in about(check("folder", folder), "defects_config.json").message


def test_batches_of_cifar10_are_compared_with_the_official_ones(tmp_path: Path) -> None:
    folder = make_cifar10(tmp_path / "CIFAR-10")
    (folder / "test_batch").write_bytes(b"no batch")
    problems = check("cifar10", tmp_path)
    assert [problem.severity for problem in problems] == ["warning"] * 5 + ["error"]
    assert "not the official file: MD5" in problems[0].message
    assert problems[-1].paths == (folder / "test_batch",)


def test_textures_are_decoded_too(tmp_path: Path) -> None:
    textures = make_folder(tmp_path / "dtd/images/banded", good=2) / "good"
    textures.rename(tmp_path / "dtd/images/waffled")
    assert check("dtd", tmp_path) == []
    (tmp_path / "dtd/images/waffled/000.png").write_bytes(b"")
    (tmp_path / "dtd/images/waffled/.directory").touch()
    problems = check("dtd", tmp_path)
    assert "the file is empty" in str(about(problems, "cannot be read"))
    assert about(problems, "hidden").severity == "note"


def test_masks_of_normal_colour_images_of_3d_scans_must_be_empty(tmp_path: Path) -> None:
    folder = make_mvtec(tmp_path / "drawn", categories=("bagel",), defects=("hole",)) / "bagel"
    for source, part in (("train/good", "rgb"), ("test/good", "rgb"), ("test/hole", "rgb")):
        target = tmp_path / "mvtec_3d" / "bagel" / source / part
        target.parent.mkdir(parents=True)
        (folder / source).rename(target)
    test = tmp_path / "mvtec_3d/bagel/test"
    (folder / "ground_truth/hole").rename(test / "hole/gt")
    for mask in (test / "hole/gt").iterdir():
        mask.rename(mask.with_name(mask.name.replace("_mask", "")))
    (test / "good/gt").mkdir()
    for number in range(3):
        Image.new("L", (64, 64)).save(test / f"good/gt/{number:03d}.png")
    root = tmp_path / "mvtec_3d"
    assert {problem.message.split(":")[0] for problem in check("mvtec_3d", root, ("bagel",))} == {
        *("train", "test/good", "test/anomalous"),
    }
    shutil.copy(test / "hole/gt/000.png", test / "good/gt/000.png")
    marked = about(check("mvtec_3d", root, ("bagel",)), "normal images have a mask that is not empty")
    assert marked.paths == (test / "good/rgb/000.png",)


def test_references_that_are_test_images_are_reported(tmp_path: Path) -> None:
    brain = make_mvtec(tmp_path / "BraTS2021", categories=("brain",), defects=("lesion",)) / "brain"
    (brain / "ground_truth/good").mkdir()
    for image in sorted((brain / "test/good").iterdir()):
        shutil.copy(image, brain / "train/good" / f"9{image.name}")
        Image.new("L", (64, 64)).save(brain / "ground_truth/good" / f"{image.stem}_mask.png")
    problems = check("brats", tmp_path)
    leak = about(problems, "same in training and test")
    assert len(leak.paths) == 6
    assert not any("mask" in problem.message for problem in problems)


def test_a_list_of_images_is_checked_like_a_folder(tmp_path: Path) -> None:
    make_folder(tmp_path / "parts", defects=("scratch",), masks=True)
    rows = ["image,label,split,mask", "good/000.png,0,train,", "good/007.png,0,test,"]
    rows += [f"scratch/00{index}.png,1,test,ground_truth/scratch/00{index}_mask.png" for index in range(3)]
    (tmp_path / "parts/list.csv").write_text("\n".join(rows))
    (unlisted,) = check("folder", tmp_path / "parts/list.csv")
    assert (unlisted.severity, len(unlisted.paths)) == ("note", 6)
    assert "that the list does not name" in unlisted.message
    (tmp_path / "parts/good/007.png").write_bytes(b"<html>")
    assert "HTML page" in str(about(check("folder", tmp_path / "parts/list.csv"), "cannot be read"))


def test_a_long_list_of_files_is_cut_in_the_text_only() -> None:
    problem = Problem("error", "bottle", "broken", tuple(Path(f"{index}.png") for index in range(8)))
    assert str(problem).startswith("error: bottle: broken\n    0.png")
    assert str(problem).endswith("and 3 more")


def test_names_that_are_not_utf_8_are_written_and_told_apart(tmp_path: Path) -> None:
    parts = make_folder(tmp_path / "parts", defects=("scratch",))
    (parts / "good/000.png").rename(parts / "good" / os.fsdecode(b"caf\xe9.png"))
    (parts / "good" / os.fsdecode(b"caf\xe8.png")).write_bytes(b"no image")
    broken = about(check("folder", parts), "cannot be read")
    str(broken).encode()
    assert json.loads(json.dumps(broken.as_facts()))["paths"] == [str(parts / "good") + r"/caf\xe8.png"]


def test_an_image_that_is_listed_twice_is_not_one_that_shares_a_mask(tmp_path: Path) -> None:
    make_folder(tmp_path / "parts", defects=("scratch",), masks=True)
    row = "scratch/000.png,1,test,ground_truth/scratch/000_mask.png\n"
    (tmp_path / "parts/list.csv").write_text(f"image,label,split,mask\ngood/000.png,0,train,\n{row}{row}")
    problems = check("folder", tmp_path / "parts/list.csv")
    assert about(problems, "listed more than once").paths == (tmp_path / "parts/scratch/000.png",)
    assert not [problem for problem in problems if "mask of another image" in problem.message]
