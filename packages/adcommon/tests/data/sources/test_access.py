import logging
import shutil
from pathlib import Path

import pytest
from PIL import Image

from adcommon.data import DATASETS, load_records, load_splits
from adcommon.data.sources.access import dtd_textures, locate
from adcommon.errors import BadValue, DatasetNotFound, EmptySplit, MaskMissing, NotPrepared, UnknownName
from adcommon.testing.trees import make_class_folders, make_folder, make_mvtec


@pytest.mark.parametrize(
    "place", ["", "mvtec_anomaly_detection", "MVTec", "mvtec_anomaly_detection/mvtec_anomaly_detection"]
)
def test_dataset_is_found_at_the_root_and_in_its_usual_folders(tmp_path: Path, place: str) -> None:
    make_mvtec(tmp_path / place, categories=("bottle",), train=5)
    assert len(load_records("mvtec", tmp_path, "bottle").train) == 5


@pytest.mark.parametrize(
    ("layout", "place"),
    [("bad", "VisA_pytorch/1cls"), ("bad", "1cls"), ("defect", "visa"), ("ko", "VisA/visa")],
)
def test_all_prepared_forms_of_visa_load_alike(tmp_path: Path, layout: str, place: str) -> None:
    make_mvtec(tmp_path / place, categories=("candle",), defects=(layout,))
    split = load_records("visa", tmp_path, "candle")
    assert len(split.train) == 6
    assert split.pixel_truth


@pytest.mark.parametrize(
    ("dataset", "category"), [("oct2017", "OCT2017"), ("aptos", "APTOS"), ("isic2018", "ISIC2018")]
)
def test_medical_sets_are_one_category_of_class_folders(tmp_path: Path, dataset: str, category: str) -> None:
    make_class_folders(tmp_path / category)
    (tmp_path / category / "train/DRUSEN").mkdir()
    shutil.copy(tmp_path / category / "test/ABNORMAL/000.png", tmp_path / category / "train/DRUSEN")
    split = load_records(dataset, tmp_path, category)
    assert [len(split.train), len(split.test)] == [6, 6]
    assert not split.pixel_truth


def test_missing_dataset_says_what_to_get_and_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound) as error:
        load_records("mvtec", tmp_path, "bottle")
    message = str(error.value)
    assert f"MVTec AD not found at {tmp_path}" in message
    assert f"bottle/train/good there or in {tmp_path / 'mvtec_anomaly_detection'}" in message
    assert "https://www.mvtec.com/company/research/datasets/mvtec-ad" in message
    assert f"uv run ad check mvtec --data-root {tmp_path}" in message
    with pytest.raises(DatasetNotFound, match=r"ad prepare visa --source DOWNLOAD --target .*/VisA_pytorch"):
        load_records("visa", tmp_path, "candle")
    with pytest.raises(DatasetNotFound, match="no such folder"):
        load_records("mvtec", tmp_path / "nowhere", "bottle")
    with pytest.raises(DatasetNotFound, match="--data-root"):
        load_records("mvtec", None, "bottle")


@pytest.mark.parametrize("given", ["stuff", "stuff/other/bottle"])
def test_root_one_level_too_high_or_too_low_names_the_right_path(tmp_path: Path, given: str) -> None:
    right = make_mvtec(tmp_path / "stuff/other", categories=("bottle",))
    with pytest.raises(DatasetNotFound, match=f"Found it at {right}: pass --data-root {right}"):
        load_records("mvtec", tmp_path / given, "bottle")


def test_another_medical_dataset_is_not_taken_for_the_missing_one(tmp_path: Path) -> None:
    make_class_folders(tmp_path / "OCT2017")
    with pytest.raises(DatasetNotFound, match="Official page"):
        load_records("aptos", tmp_path, "APTOS")


@pytest.mark.parametrize("place", ["", "VisA"])
def test_raw_visa_says_how_to_prepare_it(tmp_path: Path, place: str) -> None:
    raw = tmp_path / place
    (raw / "candle/Data/Images/Normal").mkdir(parents=True)
    command = f"uv run ad prepare visa --source {raw} --target {tmp_path / 'VisA_pytorch'}"
    with pytest.raises(NotPrepared, match=command):
        load_records("visa", tmp_path, "candle")


def test_mistyped_category_suggests_the_right_one(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle",))
    with pytest.raises(UnknownName, match="did you mean 'bottle'"):
        load_records("mvtec", tmp_path, "Botle")


@pytest.mark.parametrize(
    ("emptied", "message"),
    [
        ("train/good", r"no normal training images of category 'bottle' of 'mvtec' in .*bottle; expected"),
        ("test/good", "no normal test images of category 'bottle' .*: image AUROC cannot be computed"),
        ("test/spot", "no anomalous test images of category 'bottle' .*: image AUROC cannot be computed"),
    ],
)
def test_an_empty_split_is_an_error(tmp_path: Path, emptied: str, message: str) -> None:
    make_mvtec(tmp_path, categories=("bottle",))
    for path in (tmp_path / "bottle" / emptied).iterdir():
        path.unlink()
    with pytest.raises(EmptySplit, match=message):
        load_records("mvtec", tmp_path, "bottle")


def test_a_category_without_a_folder_is_named(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle",))
    with pytest.raises(DatasetNotFound, match=r"category 'cable' of 'mvtec' is not there: no folder .*cable"):
        load_records("mvtec", tmp_path, "cable")


def test_missing_masks_are_counted_and_the_places_listed(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle",))
    for name in ("001_mask.png", "002_mask.png"):
        (tmp_path / "bottle/ground_truth/spot" / name).unlink()
    with pytest.raises(MaskMissing) as error:
        load_records("mvtec", tmp_path, "bottle")
    message = str(error.value)
    assert "2 anomalous images of category 'bottle' have no mask" in message
    assert str(tmp_path / "bottle/test/spot/001.png") in message
    for name in ("001_mask.png", "001.png", "001.bmp", "001_label.bmp"):
        assert str(tmp_path / "bottle/ground_truth/spot" / name) in message


def test_a_dataset_with_masks_needs_them_even_if_none_is_there(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle",), masks=False)
    with pytest.raises(MaskMissing, match="3 anomalous images"):
        load_records("mvtec", tmp_path, "bottle")


def test_extra_masks_and_wrong_counts_are_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_mvtec(tmp_path, categories=("bottle",))
    shutil.copy(
        tmp_path / "bottle/ground_truth/spot/000_mask.png", tmp_path / "bottle/ground_truth/spot/099_mask.png"
    )
    with caplog.at_level(logging.WARNING):
        load_records("mvtec", tmp_path, "bottle")
    assert "1 masks belong to no image" in caplog.text
    assert "099_mask.png" in caplog.text
    assert "bottle train: expected 209 images, found 6" in caplog.text


def test_splits_of_several_categories_come_in_the_order_asked_for(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle", "cable"))
    splits = load_splits("mvtec", tmp_path, ("cable", "bottle"))
    assert list(splits) == ["cable", "bottle"]
    assert splits["bottle"] == load_records("mvtec", tmp_path, "bottle")
    assert list(load_splits("folder", tmp_path)) == ["bottle", "cable"]


def test_locate_answers_without_raising(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate(DATASETS["mvtec"], tmp_path) is None
    right = make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    assert locate(DATASETS["mvtec"], tmp_path) == right
    assert locate(DATASETS["folder"], tmp_path) is None
    for name in ("elpv", "textile"):
        found = locate(DATASETS[name], tmp_path)
        assert found is not None
        assert found.is_dir()
        with monkeypatch.context() as not_installed:
            not_installed.setattr("adcommon.data.sources.embedded.find_spec", lambda name: None)
            assert locate(DATASETS[name], tmp_path) is None


def test_what_must_not_be_loaded_is_an_error(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("bottle",))
    masks = tmp_path / "bottle/ground_truth/spot"
    (masks / "000.png").write_bytes((masks / "000_mask.png").read_bytes())
    (tmp_path / "bottle/train/bad").mkdir()
    (tmp_path / "bottle/test/good/000.png").rename(tmp_path / "bottle/train/bad/000.png")
    with pytest.raises(BadValue, match=r"'bad' among the training images(.|\n)*2 masks for one image"):
        load_records("mvtec", tmp_path, "bottle")


@pytest.mark.parametrize(
    "place", ["", "BTech_Dataset_transformed", "BTAD/btad", "btad/BTech_Dataset_transformed"]
)
def test_btad_loads_with_the_suffixes_of_each_category(tmp_path: Path, place: str) -> None:
    pixels = Image.new("L", (4, 4), 255)
    for category, image, mask in (("01", ".bmp", ".png"), ("03", ".bmp", ".bmp")):
        for name in (f"train/ok/0000{image}", f"test/ok/0000{image}", f"test/ko/0000{image}"):
            (tmp_path / place / category / name).parent.mkdir(parents=True)
            pixels.save(tmp_path / place / category / name)
        (tmp_path / place / category / "ground_truth/ko").mkdir(parents=True)
        pixels.save(tmp_path / place / category / f"ground_truth/ko/0000{mask}")
    splits = load_splits("btad", tmp_path, ("01", "03"))
    masks = {name: [record.mask for record in split.test if record.label] for name, split in splits.items()}
    assert [mask.suffix for mask in masks["01"] + masks["03"] if mask] == [".png", ".bmp"]
    assert {record.defect for record in splits["01"].test} == {"good", "defect"}


def test_brats_tolerates_masks_of_normal_images(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "BraTS2021", categories=("brain",), defects=("lesion",))
    masks = tmp_path / "BraTS2021/brain/ground_truth"
    shutil.copytree(masks / "lesion", masks / "good")
    split = load_records("brats", tmp_path, "brain")
    assert [record.mask is None for record in split.test] == [True] * 3 + [False] * 3


def test_textures_of_dtd_are_listed_without_its_junk(tmp_path: Path) -> None:
    for texture in ("waffled", "banded"):
        make_folder(tmp_path / "dtd/images" / texture, good=2)
        for image in (tmp_path / "dtd/images" / texture / "good").iterdir():
            image.rename(image.parent.parent / image.name)
        (tmp_path / "dtd/images" / texture / "good").rmdir()
    (tmp_path / "dtd/images/waffled/.directory").touch()
    names = [path.relative_to(tmp_path / "dtd/images").as_posix() for path in dtd_textures(tmp_path)]
    assert names == ["banded/000.png", "banded/001.png", "waffled/000.png", "waffled/001.png"]
    with pytest.raises(BadValue, match="'dtd' has nothing to test; it is used for: textures"):
        load_records("dtd", tmp_path, "banded")


def test_missing_textures_name_the_option_that_needs_them(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=r"DTD not found(.|\n)*images/banded(.|\n)*anomaly_types"):
        dtd_textures(tmp_path)
    (tmp_path / "dtd/images/banded").mkdir(parents=True)
    with pytest.raises(EmptySplit, match="no textures in"):
        dtd_textures(tmp_path)
