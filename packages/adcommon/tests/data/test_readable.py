import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from adcommon.data import load_splits
from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.data.readable import kinds_of, read_all, read_splits, read_tests, refuse_references
from adcommon.errors import BadValue, Leak, UnreadableImage
from adcommon.io.cache import DiskCache
from adcommon.testing.trees import make_mvtec
from adcommon.types.records import Split

SMALL = Preprocess(image_size=64)


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Published images."""
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    return load_splits("mvtec", tmp_path, ("bottle",))["bottle"]


@pytest.fixture
def own(split: Split) -> Split:
    """The same as somebody's own."""
    return replace(split, dataset="folder")


@pytest.fixture
def datasets(split: Split, tmp_path: Path) -> list[AnomalyDataset]:
    cache = DiskCache(tmp_path / "cache")
    return [AnomalyDataset(records, SMALL, cache) for records in (split.train, split.test)]


def test_good_files_pass_and_are_in_the_cache_afterwards(
    datasets: list[AnomalyDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = read_all(datasets)
    assert [[look.record for look in some] for some in looks] == [dataset.records for dataset in datasets]

    def fail(*given: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(Preprocess, "pixels", fail)
    again = AnomalyDataset(datasets[0].records, datasets[0].preprocess, datasets[0].cache)
    assert len(again.batch([0, 1]).images) == 2


def test_each_category_has_a_kind_or_none_has(split: Split) -> None:
    many, few = replace(split, train=split.train * 2), replace(split, train=split.train[:7])
    assert [kind.images for kind in kinds_of({"a": many, "b": many}, SMALL, None)] == [len(many.train)] * 2
    assert kinds_of({"a": many, "b": few}, SMALL, None) == ()


def test_every_damaged_image_and_every_mask_of_another_size_is_named_at_once(
    datasets: list[AnomalyDataset],
) -> None:
    train, test = datasets
    damaged = [record.image for record in train.records[:2]]
    for image in damaged:
        image.write_bytes(image.read_bytes()[:40])
    mask = next(record.mask for record in test.records if record.mask is not None)
    Image.new("L", (3, 3)).save(mask)
    with pytest.raises(UnreadableImage) as error:
        read_all(datasets)
    assert "3 of 12 images cannot be used" in str(error.value)
    for path in (*damaged, mask):
        assert str(path) in str(error.value)


def test_what_is_right_passes_without_a_word(own: Split, caplog: pytest.LogCaptureFixture) -> None:
    read_splits([own], SMALL, None)
    assert caplog.messages == []


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
@pytest.mark.parametrize("place", [0, -1])
def test_the_same_picture_in_training_and_test_is_a_leak(
    own: Split, suffix: str, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    copy = own.test[place].image.with_suffix(suffix)
    Image.open(own.train[2].image).save(copy)
    leaking = replace(own, test=[*own.test[:place], replace(own.test[place], image=copy, mask=None)])
    with pytest.raises(Leak, match=r"1 test images are training images too(.|\n)*train/good/002\.png"):
        read_splits([leaking], SMALL, None)
    with caplog.at_level(logging.WARNING):
        read_splits([replace(leaking, dataset="mvtec")], SMALL, None)
    assert "are training images too" in caplog.text


def test_a_picture_that_was_changed_a_little_is_warned_of(
    own: Split, caplog: pytest.LogCaptureFixture
) -> None:
    brighter = ImageEnhance.Brightness(Image.open(own.train[2].image)).enhance(1.03)
    brighter.save(own.test[0].image)
    read_splits([own], SMALL, None)
    assert "1 test images are nearly the same as training images" in caplog.text
    assert "002.png" in caplog.text


def test_an_evaluation_looks_at_test_images_alone(own: Split) -> None:
    own.train[0].image.write_bytes(b"")
    read_tests([own], SMALL, None)
    own.test[0].image.write_bytes(b"")
    with pytest.raises(UnreadableImage, match="1 of 6"):
        read_tests([own], SMALL, None)


def test_images_that_are_learned_besides_may_not_be_tested(own: Split) -> None:
    learned = [own.test[0], *own.train]
    with pytest.raises(Leak, match="1 test images are training images too"):
        read_splits([replace(own, train=[])], SMALL, None, learned=learned)
    read_splits([replace(own, train=own.test, test=[])], SMALL, None, learned=own.train)


def test_a_warning_is_given_once_for_learned_and_tested_images(
    own: Split, caplog: pytest.LogCaptureFixture
) -> None:
    published = replace(own, dataset="mvtec")
    learned = [*own.train, *own.test]
    read_splits([published], Preprocess(image_size=64, crop_size=32), None, learned=learned)
    assert sum("is not looked at" in message for message in caplog.messages) == 1


def test_references_may_not_be_tested_whatever_their_file(own: Split, tmp_path: Path) -> None:
    other = tmp_path / "reference.bmp"
    Image.open(own.test[1].image).save(other)
    refuse_references([own.train[0].image], own, SMALL, None)
    with pytest.raises(Leak, match=r"1 test images are references too(.|\n)*reference\.bmp"):
        refuse_references([own.train[0].image, other], own, SMALL, None)
    refuse_references([other], replace(own, dataset="mvtec"), SMALL, None)


def test_inverted_masks_stop_the_run(own: Split, caplog: pytest.LogCaptureFixture) -> None:
    for record in own.test:
        if record.mask is not None:
            Image.fromarray(255 - np.asarray(Image.open(record.mask))).save(record.mask)
    with pytest.raises(BadValue, match=r"bottle: 3 masks, all that there are, mark the whole border"):
        read_splits([own], SMALL, None)


def test_masks_are_judged_whole_and_not_by_what_a_crop_leaves(own: Split) -> None:
    for number, record in enumerate(own.test):
        if record.mask is not None:
            corner = np.zeros((64, 64), np.uint8)
            corner[number : number + 4, :4] = 255
            Image.fromarray(corner).save(record.mask)
    read_splits([own], Preprocess(image_size=64, crop_size=32), None)


def test_what_a_crop_does_not_see_is_said_once(own: Split, caplog: pytest.LogCaptureFixture) -> None:
    read_splits([own], Preprocess(image_size=64, crop_size=32), None)
    assert [message.split(":")[1].strip() for message in caplog.messages] == [
        "75 % of each picture (64x64) is not looked at"
    ]


def test_photographs_that_are_read_lying_are_said(own: Split, caplog: pytest.LogCaptureFixture) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(own.train[0].image)
    image.save(own.train[0].image, exif=exif)
    read_splits([own], replace(SMALL, upright=True), None)
    assert caplog.messages == []
    read_splits([own], SMALL, None)
    assert "1 photographs are to be turned by EXIF" in caplog.text
    assert "--upright" in caplog.text


def test_transparent_pixels_are_found_once_and_remembered(
    own: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.asarray(Image.open(own.train[0].image).convert("RGBA")).copy()
    pixels[0, 0, 3] = 0
    Image.fromarray(pixels).save(own.train[0].image)
    cache = DiskCache(tmp_path / "cache")
    read_splits([own], SMALL, cache)
    monkeypatch.setattr("adcommon.data.readable.has_transparent_pixels", None)
    caplog.clear()
    read_splits([own], SMALL, cache)
    assert "1 images have transparent pixels" in caplog.text


def test_a_split_without_images_is_nobodys_fault(own: Split) -> None:
    read_splits([Split([], [])], SMALL, None)
    shutil.rmtree(own.train[0].image.parent)
    with pytest.raises(UnreadableImage, match="6 of 12"):
        read_splits([own], SMALL, None)
