import os
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from adcommon.data import load_records
from adcommon.data.catalog.counts import CIFAR10_CLASSES, CIFAR10_GROUPS
from adcommon.data.sources.cifar10 import MD5, normal_classes, read_batch, scan_cifar10
from adcommon.errors import BadValue, DatasetNotFound, UnknownName
from adcommon.io.images import open_image
from adcommon.testing.trees import make_cifar10

dumps = partial(pickle.dumps, protocol=2)  # as the published batches are


def test_the_checksums_are_those_that_torchvision_has() -> None:
    assert dict([*CIFAR10.train_list, *CIFAR10.test_list]) == MD5


def test_the_batches_are_read_as_torchvision_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_cifar10(tmp_path / "cifar-10-batches-py")
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    theirs = CIFAR10(tmp_path, train=False)
    images, labels = read_batch(tmp_path / "cifar-10-batches-py/test_batch")
    np.testing.assert_array_equal(images, theirs.data)
    np.testing.assert_array_equal(labels, theirs.targets)


def test_a_class_against_all_others_has_its_pixels_on_disk(tmp_path: Path) -> None:
    folder = make_cifar10(tmp_path / "data/CIFAR-10/cifar-10-batches-py")
    split = load_records("cifar10", tmp_path / "data", "cat")
    assert len(split.train) == 2 * 5
    assert [record.defect for record in split.test].count("good") == 3
    assert {record.defect for record in split.test} == {"good", *CIFAR10_CLASSES} - {"cat"}
    batches = [read_batch(folder / f"data_batch_{number}") for number in range(1, 6)]
    pixels = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([values for _, values in batches])
    indices = [int(record.image.stem) for record in split.train]
    assert indices == np.flatnonzero(labels == 3).tolist()
    for index, record in zip(indices, split.train, strict=True):
        assert record.image.parent.name == "cat"
        np.testing.assert_array_equal(np.asarray(open_image(record.image)), pixels[index])


@pytest.mark.parametrize("setting", ["01234", "56789", "02468", "13579"])
def test_five_against_five_takes_every_image(tmp_path: Path, setting: str) -> None:
    folder = make_cifar10(tmp_path / "batches")
    split = scan_cifar10(folder, setting).split
    normal = {record.image.parent.name for record in split.train}
    assert normal == {CIFAR10_CLASSES[int(digit)] for digit in setting} == set(CIFAR10_GROUPS[setting])
    assert len(split.train) == 5 * 2 * 5
    assert [record.label for record in split.test] == [0] * 15 + [1] * 15
    assert split.test == scan_cifar10(folder, setting, seed=1).split.test


def test_other_settings_draw_as_many_anomalous_images_as_normal_ones(tmp_path: Path) -> None:
    folder = make_cifar10(tmp_path / "batches", test=6)
    first, again, other = (scan_cifar10(folder, "07", seed=seed).split.test for seed in (0, 0, 1))
    assert first == again != other
    assert [record.label for record in first] == [0] * 12 + [1] * 12
    few = scan_cifar10(folder, "0123456").split.test  # fewer anomalous images than normal ones: all of them
    assert [record.label for record in few] == [0] * 42 + [1] * 18


def test_images_are_written_once(tmp_path: Path) -> None:
    folder = make_cifar10(tmp_path / "batches")
    before = [record.image.stat().st_mtime_ns for record in scan_cifar10(folder, "animal").split.train]
    after = [record.image.stat().st_mtime_ns for record in scan_cifar10(folder, "animal").split.train]
    assert before == after
    images = [record.image for record in scan_cifar10(folder, "dog").split.train]
    make_cifar10(folder, seed=1)
    assert images != [record.image for record in scan_cifar10(folder, "dog").split.train]


@pytest.mark.parametrize("category", ["Cat", "0123456789", "11", "", "0a"])
def test_what_is_no_category_is_refused(category: str) -> None:
    with pytest.raises(UnknownName, match="category of 'cifar10'"):
        normal_classes(category)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("evil",)


class _Dotted:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return np.ndarray.tofile, ("evil",)


@pytest.mark.parametrize("evil", [_Evil(), _Dotted()])
def test_a_batch_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evil: object) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_cifar10(tmp_path / "batches")
    (folder / "test_batch").write_bytes(dumps({"data": evil, "labels": [0]}))
    with pytest.raises(BadValue, match=r"test_batch: it asks for .*do not open such a file"):
        scan_cifar10(folder, "cat")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a batch"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a batch"),
        (dumps([1, 2]), "not a batch"),
        (dumps({"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]}), "expected uint8"),
        (dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}), "expected 0 to 9"),
        (dumps({"data": np.zeros((2, 3072), np.uint8)}), "labels"),
    ],
)
def test_what_is_no_batch_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(BadValue, match=rf"data_batch_1(.|\n)*{message}|{message}(.|\n)*data_batch_1"):
        read_batch(tmp_path / "data_batch_1")


def test_a_missing_batch_is_an_error(tmp_path: Path) -> None:
    folder = make_cifar10(tmp_path / "batches")
    (folder / "data_batch_3").unlink()
    with pytest.raises(DatasetNotFound, match="data_batch_3"):
        scan_cifar10(folder, "cat")
    with pytest.raises(DatasetNotFound, match="Expected data_batch_1 to data_batch_5 and test_batch"):
        load_records("cifar10", tmp_path, "cat")


def test_other_files_than_the_official_ones_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scan_cifar10(make_cifar10(tmp_path / "batches"), "cat")
    assert "test_batch is not the official one" in caplog.text
