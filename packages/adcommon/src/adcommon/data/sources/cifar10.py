"""CIFAR-10 from the batches of its Python version: one class or several against the others.

    cifar-10-batches-py/data_batch_1 ... data_batch_5, test_batch

Training images are the training images of the normal classes, test images those of the test batch: all of the
normal classes, and of the others all, or as many as there are normal ones. The images are unpacked once into
the cache, as lossless PNG files `<class>/<index>.png`, where the index is that of the image in its batches.

A batch is a pickle, which may run code when it is read; here it is read so that it can only make arrays.
"""

import hashlib
import logging
import pickle
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image
from tqdm import tqdm

from adcommon.data.catalog.counts import CIFAR10_CLASSES, CIFAR10_GROUPS
from adcommon.data.sources.layouts import Scan, in_order
from adcommon.errors import BadValue, DatasetNotFound, unknown_name
from adcommon.io.cache import cache_folder, made_once
from adcommon.io.images import list_images
from adcommon.types.records import Record, Split

logger = logging.getLogger(__name__)

VERSION = 1
"""Raised whenever a change here moves a pixel or a name, so that the cache never mixes two versions."""

MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""Of the official files, as torchvision checks them."""

BATCHES = {"train": tuple(MD5)[:5], "test": tuple(MD5)[5:]}

_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
"""The callables, by module and name, that arrays are made with."""


def has_batches(folder: Path) -> bool:
    """True if all batches are in a folder."""
    return all((folder / name).is_file() for name in MD5)


def normal_classes(category: str) -> tuple[str, ...]:
    """The classes that are normal in a category: a class, a group of classes, or the digits of classes.

    >>> normal_classes("cat"), normal_classes("18")
    (('cat',), ('automobile', 'ship'))
    """
    if category in CIFAR10_CLASSES:
        return (category,)
    if category in CIFAR10_GROUPS:
        return CIFAR10_GROUPS[category]
    if not _is_setting(category):
        raise unknown_name("category of 'cifar10'", category, (*CIFAR10_CLASSES, *CIFAR10_GROUPS))
    return tuple(CIFAR10_CLASSES[int(digit)] for digit in category)


def scan_cifar10(folder: Path, category: str, *, seed: int = 0) -> Scan:
    """One category of CIFAR-10.

    Args:
        folder: holds the batches.
        category: a class or a group tests with all other classes; digits ("01234") are UniAD's setting
            (arXiv 2206.03687, section 4.4) and test with as many anomalous images as normal ones.
        seed: draws them; nothing is drawn where there are not more, as with five against five.

    Raises:
        DatasetNotFound: batches are missing.
        BadValue: a file that is no batch.
    """
    normal = normal_classes(category)
    others = [name for name in CIFAR10_CLASSES if name not in normal]
    train = _records(folder, "train", normal, category, 0)
    tested = _records(folder, "test", normal, category, 0)
    anomalous = _records(folder, "test", others, category, 1)
    if _is_setting(category) and len(anomalous) > len(tested):
        # Faithful: UniAD draws without a seed of its own; here the seed is the run's.
        drawn = np.random.default_rng(seed).permutation(len(anomalous))[: len(tested)]
        anomalous = [anomalous[index] for index in sorted(drawn.tolist())]
    return Scan(Split(train, [*tested, *anomalous]))


def read_batch(path: Path) -> tuple[UInt8[np.ndarray, "images 32 32 3"], Int64[np.ndarray, " images"]]:
    """The images and labels of one batch; nothing that the file contains is run.

    Raises:
        DatasetNotFound: no such file.
        BadValue: not a batch of CIFAR-10.
    """
    if not path.is_file():
        raise _missing(path)
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="latin1").load()
        pixels = np.asarray(batch["data"])
        labels = np.asarray(batch["labels"], dtype=np.int64)
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3072):
            raise BadValue(f"its data is {pixels.dtype} of shape {pixels.shape}; expected uint8, (n, 3072)")
        if labels.size and not (0 <= labels.min() and labels.max() < len(CIFAR10_CLASSES)):
            raise BadValue(f"its labels go from {labels.min()} to {labels.max()}; expected 0 to 9")
    except Exception as error:  # a damaged pickle raises nearly anything
        raise BadValue(f"not a batch of CIFAR-10: {path}: {str(error) or type(error).__name__}") from error
    return np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def _is_setting(category: str) -> bool:
    """True for different digits, in UniAD's manner, that leave a class to be anomalous."""
    return set(category) <= set("0123456789") and 0 < len(set(category)) == len(category) < 10


def _records(
    folder: Path, split: Literal["train", "test"], names: Sequence[str], category: str, label: int
) -> list[Record]:
    images = _unpacked(folder, split, names)
    return in_order(
        Record(image, category, label, name if label else "good")
        for name in names
        for image in list_images(images / name)
    )


def _unpacked(folder: Path, split: Literal["train", "test"], names: Sequence[str]) -> Path:
    """The folder below which the images of these classes lie, written if they are not there yet."""
    digest = hashlib.md5(usedforsecurity=False)
    for name in BATCHES[split]:
        digest.update(md5_of(folder / name).encode())
    target = cache_folder() / f"cifar10-{VERSION}-{digest.hexdigest()[:16]}" / split
    missing = [name for name in names if not (target / name).is_dir()]
    if missing:
        logger.info("dataset cifar10 split %s unpacked into %s", split, target)
        batches = [read_batch(folder / name) for name in BATCHES[split]]
        pixels = np.concatenate([images for images, _ in batches])
        labels = np.concatenate([values for _, values in batches])
        for name in tqdm(missing, desc=f"unpacking {split}", unit="class", disable=None, leave=False):
            indices = np.flatnonzero(labels == CIFAR10_CLASSES.index(name))
            made_once(target / name, partial(_write, pixels, indices), "the images of CIFAR-10")
    return target


def _write(pixels: np.ndarray, indices: np.ndarray, folder: Path) -> None:
    for index in indices:
        Image.fromarray(pixels[index]).save(folder / f"{index:05d}.png", compress_level=1)


def md5_of(path: Path) -> str:
    """MD5 of a batch; another one than the official is said in the log, once for each state of the file."""
    if not path.is_file():
        raise _missing(path)
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)


def _missing(path: Path) -> DatasetNotFound:
    return DatasetNotFound(f"a batch of CIFAR-10 is missing: {path}\n  Unpack cifar-10-python.tar.gz again.")


@cache
def _digest(path: Path, size: int, modified_ns: int) -> str:
    """Of a file in one state; size and date are there to tell states apart."""
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if found != MD5[path.name]:
        message = "dataset cifar10 file %s is not the official one: MD5 %s, expected %s"
        logger.warning(message, path, found, MD5[path.name])
    return found


class _ArraysOnly(pickle.Unpickler):
    """Reads plain values and NumPy's arrays; anything else, which could run code, is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """One of `_ALLOWED`."""
        if (module, name) not in _ALLOWED:
            raise BadValue(f"it asks for {module}.{name}, which no batch needs; do not open such a file")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
