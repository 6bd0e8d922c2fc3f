from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data import load_records
from adcommon.data.check.dataset import check
from adcommon.data.sources.layouts import mask_places, pair_masks, scan_category, scan_loco, scan_nested
from adcommon.testing.downloads import make_download
from adcommon.testing.trees import make_class_folders, make_mvtec


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(path, format="PNG")
    return path


def test_every_image_of_a_tree_is_found_with_its_own_mask(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("alpha",), defects=("cut", "spot"), train=4, test_good=2, test_defect=3)
    scan = scan_category(tmp_path / "alpha", "alpha")
    assert [record.label for record in scan.split.train] == [0] * 4
    assert [(record.defect, record.label) for record in scan.split.test] == (
        [("cut", 1)] * 3 + [("good", 0)] * 2 + [("spot", 1)] * 3
    )
    for record in scan.split.test:
        if record.label == 0:
            assert record.mask is None
        else:
            assert (
                record.mask == tmp_path / f"alpha/ground_truth/{record.defect}/{record.image.stem}_mask.png"
            )
    assert scan.split.pixel_truth
    assert not scan.missing
    assert not scan.extra


@pytest.mark.parametrize("name", ["s_mask.png", "s.png", "s.bmp", "s_label.bmp", "S_MASK.PNG", "s/000.png"])
def test_accepted_names_of_masks(tmp_path: Path, name: str) -> None:
    image = touch(tmp_path / "images/S.JPG" if name.startswith("S") else tmp_path / "images/s.JPG")
    mask = touch(tmp_path / "masks" / name)
    if name == "S_MASK.PNG":  # the suffix may have any case, the stem may not
        mask = mask.rename(mask.with_name("S_mask.PNG"))
    expected = mask.parent if name == "s/000.png" else mask
    assert pair_masks([image], tmp_path / "masks").masks == {image: expected}


def test_masks_pair_by_stem_not_by_position(tmp_path: Path) -> None:
    images = [touch(tmp_path / f"images/{name}.png") for name in ("a", "b", "c")]
    masks = [touch(tmp_path / f"masks/{name}_mask.png") for name in ("b", "c", "d")]
    pairing = pair_masks(images, tmp_path / "masks")
    assert pairing.masks == {images[1]: masks[0], images[2]: masks[1]}
    assert pairing.missing == [images[0]]
    assert pairing.extra == [masks[2]]


def test_an_image_may_be_called_label_itself(tmp_path: Path) -> None:
    image = touch(tmp_path / "images/s_label.png")
    mask = touch(tmp_path / "masks/s_label.png")
    assert pair_masks([image], tmp_path / "masks").masks == {image: mask}


def test_two_masks_for_one_image_are_wrong_and_named(tmp_path: Path) -> None:
    image = touch(tmp_path / "images/s.png")
    touch(tmp_path / "masks/s.png")
    touch(tmp_path / "masks/s_mask.png")
    pairing = pair_masks([image], tmp_path / "masks")
    assert (pairing.masks, pairing.missing, pairing.extra) == ({}, [], [])
    assert "2 masks for one image" in pairing.wrong[0]
    assert "s_mask.png" in pairing.wrong[0]


def test_jpeg_is_no_mask_because_it_changes_values(tmp_path: Path) -> None:
    image = touch(tmp_path / "images/s.png")
    touch(tmp_path / "masks/s.jpg")
    assert pair_masks([image], tmp_path / "masks").missing == [image]


def test_places_of_a_mask_are_those_that_pairing_accepts(tmp_path: Path) -> None:
    image = touch(tmp_path / "images/s.png")
    for place in mask_places(image, tmp_path / "masks"):
        if place.suffix:
            made = touch(place)
        else:
            made = touch(place / "000.png").parent
        assert pair_masks([image], tmp_path / "masks").masks == {image: place}
        made.unlink() if made.is_file() else (made / "000.png").unlink()


@pytest.mark.parametrize("good", ["good", "ok", "NORMAL"])
def test_normal_folders_may_have_any_of_three_names(tmp_path: Path, good: str) -> None:
    touch(tmp_path / f"train/{good}/0.png")
    touch(tmp_path / f"test/{good}/0.png")
    touch(tmp_path / "test/ko/0.bmp")
    touch(tmp_path / "ground_truth/ko/0.png")
    split = scan_category(tmp_path, "01").split
    assert [(record.defect, record.label) for record in split.test if record.label == 0] == [("good", 0)]
    assert [(record.defect, record.mask is not None) for record in split.test if record.label] == [
        ("defect", True)
    ]
    assert len(split.train) == 1


def test_anomalous_images_must_not_train(tmp_path: Path) -> None:
    touch(tmp_path / "train/good/0.png")
    touch(tmp_path / "train/bad/0.png")
    (wrong,) = scan_category(tmp_path, "candle").wrong
    assert "'bad' among the training images of category 'candle'" in wrong
    assert "train/bad" in wrong
    scan = scan_category(tmp_path, "candle", other_train_folders=True)
    assert (len(scan.split.train), scan.wrong) == (1, [])


def test_class_folders_have_no_pixel_truth(tmp_path: Path) -> None:
    make_class_folders(tmp_path)
    scan = scan_category(tmp_path, "APTOS", other_train_folders=True)
    assert (len(scan.split.train), len(scan.split.test)) == (6, 6)
    assert {record.defect for record in scan.split.test} == {"good", "ABNORMAL"}
    assert not scan.has_masks
    assert not scan.split.pixel_truth


def test_order_is_by_code_points_of_the_relative_path(tmp_path: Path) -> None:
    for name in ("test/cut/1.png", "test/cut-off/0.png", "test/good/2.png", "test/Bend/9.png"):
        touch(tmp_path / name)
    test = scan_category(tmp_path, "x").split.test
    paths = [record.image.relative_to(tmp_path).as_posix() for record in test]
    assert paths == sorted(paths)
    assert paths == ["test/Bend/9.png", "test/cut-off/0.png", "test/cut/1.png", "test/good/2.png"]


def test_junk_and_masks_of_normal_images_are_passed_over(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("a",))
    before = scan_category(tmp_path / "a", "a")
    touch(tmp_path / "a/test/.ipynb_checkpoints/000.png")
    touch(tmp_path / "a/train/good/._000.png")
    touch(tmp_path / "a/ground_truth/good/000_mask.png")
    (tmp_path / "a/test/good/.DS_Store").touch()
    (tmp_path / "a/test/license.txt").touch()
    after = scan_category(tmp_path / "a", "a")
    assert after == before


def test_masks_of_a_defect_without_images_are_extra(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("a",))
    extra = touch(tmp_path / "a/ground_truth/crack/000_mask.png")
    assert scan_category(tmp_path / "a", "a").extra == [extra]


def test_colour_images_of_mvtec_3d_pair_with_the_masks_beside_them(tmp_path: Path) -> None:
    for name in ("train/good/rgb/000", "validation/good/rgb/000", "test/good/rgb/000", "test/cut/rgb/000"):
        touch(tmp_path / f"{name}.png")
    touch(tmp_path / "train/good/xyz/000.tiff")
    touch(tmp_path / "test/good/gt/000.png")
    mask = touch(tmp_path / "test/cut/gt/000.png")
    scan = scan_nested(tmp_path, "bagel", "rgb", "gt")
    assert [record.image.parent.parent.name for record in scan.split.train] == ["good"]
    assert [(record.label, record.defect, record.mask) for record in scan.split.test] == [
        (1, "cut", mask),
        (0, "good", None),
    ]
    mask.unlink()
    assert list(scan_nested(tmp_path, "bagel", "rgb", "gt").missing) == [tmp_path / "test/cut/rgb/000.png"]


def test_a_prepared_tree_of_mvtec_3d_is_scanned_as_any_other(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bagel",))
    bagel = tmp_path / "bagel"
    assert scan_nested(bagel, "bagel", "rgb", "gt") == scan_category(bagel, "bagel")


def test_masks_of_loco_are_the_folders_of_their_channels(tmp_path: Path) -> None:
    group = "logical_anomalies"
    for name in ("train/good/000.png", "validation/good/000.png", f"test/{group}/004.png"):
        touch(tmp_path / name)
    raw = touch(tmp_path / f"ground_truth/{group}/004/000.png").parent
    (record,) = scan_loco(tmp_path, "pushpins").split.test
    assert (record.defect, record.mask) == (group, raw)
    prepared = tmp_path / "ground_truth_channels" / group / "004"
    prepared.parent.mkdir(parents=True)
    raw.rename(prepared)
    raw.parent.rmdir()
    touch(tmp_path / f"ground_truth/{group}/004_mask.png")
    assert scan_loco(tmp_path, "pushpins").split.test[0].mask == prepared
    prepared.parent.rename(tmp_path / "elsewhere")
    (tmp_path / "ground_truth_channels").rmdir()
    assert (
        scan_loco(tmp_path, "pushpins").split.test[0].mask == tmp_path / f"ground_truth/{group}/004_mask.png"
    )


def test_the_private_images_of_mvtec_ad_2_have_scores_and_no_metrics(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_download("mvtec_ad_2", tmp_path / "data") / "mvtec_ad_2"
    caplog.set_level("INFO")
    split = load_records("mvtec_ad_2", tmp_path / "data", "can")
    assert [(record.label, record.image.parent.name) for record in split.test] == [(1, "bad"), (0, "good")]
    assert split.test[0].mask == root / "can/test_public/ground_truth/bad/000_regular_mask.png"
    assert "2 images without labels, so without metrics; `ad predict FOLDER --model MODEL`" in caplog.text
    (note,) = [problem for problem in check("mvtec_ad_2", root, ("can",)) if "without labels" in str(problem)]
    assert note.severity == "note"
    assert {path.parent.name for path in note.paths} == {"test_private", "test_private_mixed"}


def test_sets_of_bmad_have_masks_or_none(tmp_path: Path) -> None:
    raw = make_download("bmad", tmp_path / "raw")
    for name, masks in (("Brain_AD/BraTS2021_slice", True), ("Chest_AD/Chest-RSNA", False)):
        scan = scan_nested(raw / name, "x", "img", "label")
        assert [record.label for record in (*scan.split.train, *scan.split.test)] == [0, 1, 0]
        assert scan.has_masks == scan.split.pixel_truth == masks
