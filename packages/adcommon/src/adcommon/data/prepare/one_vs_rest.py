"""MNIST and CIFAR-10 as image folders: one class, or several, against all others.

    <source>                                  <target>/7                      <target>/even
      training/7/00123.png                      train/good/00123.png            train/good/0_00021.png, ...
      testing/7/00045.png                       test/good/00045.png             test/good/0_00003.png, ...
      testing/1/00002.png                       test/1/00002.png                test/1/00002.png

Training images are the training images of the normal classes; the test images of all classes test. This is
the one-class protocol of the field and of InCTRL (arXiv 2403.06495), which ships no converter. Its multi-
class protocols are the categories `even` of MNIST and `animal` of CIFAR-10, whose names begin with the
class, so that none is lost.
"""

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from adcommon.data.catalog.counts import CIFAR10_CLASSES, CIFAR10_GROUPS, MNIST_CLASSES, MNIST_GROUPS
from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import Categories, find_level, search_level
from adcommon.data.sources.cifar10 import BATCHES, read_batch
from adcommon.data.sources.layouts import subfolders
from adcommon.errors import BadValue, DatasetNotFound, unknown_name
from adcommon.io.images import list_images

Images = Mapping[str, list[Step]]
"""The images of each class; the targets of these steps are bare file names."""

_IDX = {"train": "train", "test": "t10k"}
_PNG = {"train": "training", "test": "testing"}


@dataclass(frozen=True, kw_only=True)
class Mnist:
    """One digit against all, or even against odd."""

    categories: Categories = ()
    """Digits, `even` or `odd`. [default: the ten digits]"""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has the four official files *-ubyte, packed or not, or the PNG images."""
        root = search_level(source, "train-images*ubyte*")
        if root is not None:
            images = {part: _read_idx(root, prefix) for part, prefix in _IDX.items()}
        else:
            root = find_level(source, "training", "mnist")
            images = {part: _list(root / folder, MNIST_CLASSES) for part, folder in _PNG.items()}
        steps = _steps("mnist", images, self.categories or MNIST_CLASSES, MNIST_GROUPS)
        return Plan("mnist", root, target, steps, asdict(self))


@dataclass(frozen=True, kw_only=True)
class Cifar10:
    """Image folders: one class against all, or animals against the rest."""

    categories: Categories = ()
    """Classes, `animal` or `object`, or five classes as in UniAD (01234). [default: the ten classes]"""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has the batches of the Python version, or train/airplane, ... as PNG."""
        root = search_level(source, "data_batch_1")
        if root is not None:
            images = {part: _read_batches(root, names) for part, names in BATCHES.items()}
        else:
            root = find_level(source, "train/airplane", "cifar10")
            images = {part: _list(root / part, CIFAR10_CLASSES) for part in ("train", "test")}
        steps = _steps("cifar10", images, self.categories or CIFAR10_CLASSES, CIFAR10_GROUPS)
        return Plan("cifar10", root, target, steps, asdict(self))


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """The array in a file of MNIST's own format, which may be packed with gzip."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, kind, dimensions = int.from_bytes(content[:2], "big"), content[2], content[3]
        shape = np.frombuffer(content, ">u4", dimensions, 4).tolist()
        if zeros or kind != 8:
            raise ValueError("it does not begin with 0, 0, 8")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, ValueError, IndexError, EOFError) as error:
        raise BadValue(f"{path} is not one of MNIST's files: {error}") from None


def write_pixels(source: Path, target: Path, *, pixels: UInt8[np.ndarray, "height width *channels"]) -> None:
    """Write an image that was read from `source`, as PNG."""
    Image.fromarray(pixels).save(target, format="PNG", compress_level=1)


def _read_idx(source: Path, prefix: str) -> Images:
    """The images of one official file; each is named by its number."""
    arrays = {}
    for kind in ("images", "labels"):
        paths = sorted(source.glob(f"{prefix}-{kind}*ubyte*"))
        if not paths:
            raise DatasetNotFound(
                f"no {prefix}-{kind}-*ubyte* in {source}; expected MNIST's four files there"
            )
        arrays[kind] = read_idx(paths[0])
    images, labels = arrays["images"], arrays["labels"]
    if images.shape != (len(labels), 28, 28):
        raise BadValue(f"{source}: {prefix} has images of shape {images.shape} and {len(labels)} labels")
    return {name: _numbered(paths[0], images, np.flatnonzero(labels == int(name))) for name in MNIST_CLASSES}


def _read_batches(folder: Path, names: tuple[str, ...]) -> Images:
    """The images of some batches; each is named by its number in all of them."""
    batches = [read_batch(folder / name) for name in names]
    pixels = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([values for _, values in batches])
    return {
        name: _numbered(folder / names[0], pixels, np.flatnonzero(labels == number))
        for number, name in enumerate(CIFAR10_CLASSES)
    }


def _numbered(source: Path, pixels: UInt8[np.ndarray, "images ..."], numbers: np.ndarray) -> list[Step]:
    return [
        Step(f"{number:05d}.png", source, partial(write_pixels, pixels=pixels[number]))
        for number in numbers.tolist()
    ]


def _list(folder: Path, classes: tuple[str, ...]) -> Images:
    """The images of a folder that has one folder for each class."""
    missing = set(classes) - {below.name for below in subfolders(folder)}
    if missing:
        raise DatasetNotFound(f"{folder} lacks the folders {', '.join(sorted(missing))}")
    return {name: [Step(image.name, image) for image in list_images(folder / name)] for name in classes}


def _steps(
    dataset: str,
    images: Mapping[str, Images],
    categories: Sequence[str],
    groups: Mapping[str, tuple[str, ...]],
) -> list[Step]:
    """The files of the categories; `images` are those of train and of test."""
    normal_classes = {name: (name,) for name in images["train"]} | dict(groups)
    steps = []
    for category in categories:
        if category not in normal_classes:
            raise unknown_name(f"category of '{dataset}'", category, normal_classes)
        normal = normal_classes[category]
        for part, classes in images.items():
            for name in normal if part == "train" else classes:
                folder = f"{category}/{part}/{'good' if name in normal else name}"
                prefix = f"{name}_" if name in normal and len(normal) > 1 else ""
                steps += [replace(step, target=f"{folder}/{prefix}{step.target}") for step in classes[name]]
    return steps
