import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data import load_records
from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.one_vs_rest import Cifar10, Mnist, read_idx
from adcommon.data.sources.cifar10 import BATCHES, read_batch
from adcommon.errors import BadValue, DatasetNotFound, UnknownName
from adcommon.testing.downloads import draw, make_download


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """40 training and 20 test images, whose digits go round."""
    return make_download("mnist", tmp_path / "mnist")


def test_one_digit_is_normal_and_all_others_test_as_anomalies(mnist: Path, tmp_path: Path) -> None:
    plan = carry_out(Mnist(categories=("7",)).plan(mnist, tmp_path / "out"))
    assert plan.counts() == {"7/train/good": 4, "7/test/good": 2} | {
        f"7/test/{digit}": 2 for digit in range(10) if digit != 7
    }
    images = read_idx(mnist / "train-images-idx3-ubyte.gz")
    for number in (7, 17, 27, 37):
        written = Image.open(tmp_path / f"out/7/train/good/{number:05d}.png")
        np.testing.assert_array_equal(np.asarray(written), images[number])
    split = load_records("mnist", tmp_path / "out", "7")
    assert sorted({record.defect for record in split.test}) == [*"01234568", "9", "good"]


def test_all_digits_are_the_default(mnist: Path, tmp_path: Path) -> None:
    counts = Mnist().plan(mnist, tmp_path / "out").counts()
    assert sum(count for folder, count in counts.items() if "/train/" in folder) == 40
    assert sum(count for folder, count in counts.items() if "/test/" in folder) == 200


def test_even_against_odd_keeps_images_of_all_digits_apart(tmp_path: Path) -> None:
    raw = tmp_path / "raw/mnist_png"
    for digit in range(10):
        draw(raw / f"training/{digit}/1.png", size=(28, 28), mode="L")
        draw(raw / f"testing/{digit}/1.png", size=(28, 28), mode="L")
    target = tmp_path / "out/MNIST_anomaly_detection"
    plan = carry_out(Mnist(categories=("even", "odd")).plan(tmp_path / "raw", target))
    names = sorted(path.name for path in (plan.folder / "even/train/good").iterdir())
    assert names == [f"{digit}_1.png" for digit in (0, 2, 4, 6, 8)]
    split = load_records("mnist", tmp_path / "out", "even")
    assert [record.label for record in split.test].count(1) == 5
    assert {record.defect for record in split.test} == {"good", "1", "3", "5", "7", "9"}


def test_the_official_files_may_lie_in_a_folder(mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "raw/MNIST").mkdir(parents=True)
    mnist.rename(tmp_path / "raw/MNIST/raw")
    assert Mnist(categories=("3",)).plan(tmp_path / "raw", tmp_path / "out").counts()["3/train/good"] == 4


def test_packed_and_unpacked_files_are_the_same(mnist: Path, tmp_path: Path) -> None:
    packed = mnist / "t10k-labels-idx1-ubyte.gz"
    labels = read_idx(packed)
    plain = tmp_path / "labels"
    plain.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 20]) + labels.tobytes())
    np.testing.assert_array_equal(read_idx(plain), labels)
    assert labels.tolist() == [*range(10), *range(10)]


def test_animals_of_cifar_10_against_the_rest(tmp_path: Path) -> None:
    raw = make_download("cifar10", tmp_path / "raw")
    counts = Cifar10(categories=("animal", "01234")).plan(raw, tmp_path / "out").counts()
    assert counts["animal/train/good"] == 12
    assert counts["animal/test/good"] == 6
    assert {folder for folder in counts if folder.startswith("animal/test/")} == {
        f"animal/test/{name}" for name in ("good", "airplane", "automobile", "ship", "truck")
    }
    assert counts["01234/train/good"] == 10


def test_the_batches_of_cifar_10_need_not_be_images(tmp_path: Path) -> None:
    labels = list(range(10))
    for seed, names in enumerate(BATCHES.values()):
        pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        for name in names:
            path = tmp_path / "raw/cifar-10-batches-py" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps({"data": pixels, "labels": labels}, protocol=2))
    plan = carry_out(Cifar10(categories=("cat",)).plan(tmp_path / "raw", tmp_path / "out"))
    assert plan.counts()["cat/train/good"] == 5
    assert plan.counts()["cat/test/dog"] == 1
    pixels, _ = read_batch(tmp_path / "raw/cifar-10-batches-py/test_batch")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/cat/test/good/00003.png")), pixels[3])
    split = load_records("cifar10", tmp_path / "out", "cat")
    assert (len(split.train), len(split.test)) == (5, 10)


def test_what_is_missing_or_mistyped_is_named(mnist: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"category of 'mnist': 'evn'; did you mean 'even'"):
        Mnist(categories=("evn",)).plan(mnist, tmp_path / "out")
    (mnist / "t10k-labels-idx1-ubyte.gz").write_bytes(b"<html>")
    with pytest.raises(BadValue, match=r"t10k-labels-idx1-ubyte\.gz is not one of MNIST's files"):
        Mnist().plan(mnist, tmp_path / "out")
    (mnist / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DatasetNotFound, match=r"no t10k-labels-\*ubyte\* in .*; expected MNIST's four files"):
        Mnist().plan(mnist, tmp_path / "out")
    with pytest.raises(DatasetNotFound, match="not the download of MNIST"):
        Mnist().plan(tmp_path / "nowhere", tmp_path / "out")
    draw(tmp_path / "cifar/train/airplane/0.png")
    with pytest.raises(DatasetNotFound, match="train lacks the folders automobile, bird"):
        Cifar10().plan(tmp_path / "cifar", tmp_path / "out")


def test_labels_must_be_as_many_as_images(mnist: Path, tmp_path: Path) -> None:
    (mnist / "train-labels-idx1-ubyte.gz").write_bytes((mnist / "t10k-labels-idx1-ubyte.gz").read_bytes())
    with pytest.raises(BadValue, match=r"train has images of shape \(40, 28, 28\) and 20 labels"):
        Mnist().plan(mnist, tmp_path / "out")
