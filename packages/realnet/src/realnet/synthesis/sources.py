"""Where anomalies take their looks from: diffusion samples (SDAS), DTD's textures, or the training images.

Images are decoded and resized once, by OpenCV's bilinear filter without anti-aliasing as in the reference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import skimage.data
from jaxtyping import UInt8
from numpy.random import Generator
from PIL import Image as PillowImage

import realnet.synthesis.opencv
from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.errors import DatasetNotFound, EmptySplit
from adcommon.io.cache import DiskCache, code_digest
from adcommon.io.images import list_images, open_image
from adcommon.types.records import Record
from realnet.synthesis.opencv import grey, resize
from realnet.synthesis.texture_augment import augment

Image = UInt8[np.ndarray, "height width 3"]

BUNDLED = ("brick", "grass", "gravel")
"""Textures that come with scikit-image, grey, 512x512 pixels."""
BUNDLED_SHARE = 0.5
"""Of the textures of `OwnTextures`; the others are made of training images."""
PIECES = (1, 2, 4, 8)
"""Pieces per side into which a training image may be cut before they are shuffled."""


@runtime_checkable
class Source(Protocol):
    """Images of any pose to blend in."""

    def draw(self, generator: Generator, count: int, size: int) -> UInt8[np.ndarray, "count size size 3"]:
        """As many images as asked for, `size` pixels a side, each drawn from the generator."""
        ...


@dataclass(frozen=True, kw_only=True)
class _UnfilteredPixels(Preprocess):
    """Pixels by OpenCV's bilinear resize."""

    def key(self) -> str:
        """Differs from Pillow's resize at the same size."""
        return f"opencv-{self.image_size} {code_digest(realnet.synthesis.opencv)}"

    def pixels(self, image: Path | PillowImage.Image) -> UInt8[np.ndarray, "size size 3"]:
        """Decoded and resized; nothing is cropped."""
        return resize(np.asarray(open_image(image)), (self.size, self.size))


class ImageSource:
    """Files, each as likely as any other, changed by `change` after they are resized."""

    def __init__(
        self,
        files: Sequence[Path],
        *,
        change: Callable[[Image, Generator], Image] | None = None,
        cache: DiskCache | None = None,
    ) -> None:
        """Nothing is read yet; the cache keeps decoded images between runs."""
        self.records = [Record(file, file.parent.name, label=0) for file in files]
        self._change, self._cache = change, cache
        self._sizes: dict[int, AnomalyDataset] = {}

    def draw(self, generator: Generator, count: int, size: int) -> UInt8[np.ndarray, "count size size 3"]:
        """As `Source.draw`."""
        if size not in self._sizes:
            self._sizes[size] = AnomalyDataset(self.records, _UnfilteredPixels(image_size=size), self._cache)
        images = self._sizes[size].pixels(generator.integers(len(self.records), size=count).tolist())
        if self._change is None:
            return images
        return np.stack([self._change(image, generator) for image in images])


def sdas_source(folder: Path, cache: DiskCache | None = None) -> ImageSource:
    """The diffusion samples in a folder, used as they are.

    Raises:
        DatasetNotFound, EmptySplit: no such folder, or no images in it; how to make them or do without.
    """
    hint = "  Sample them with realnet-sample, or give `sdas` no share of the anomaly types."
    if not folder.is_dir():
        raise DatasetNotFound(f"no diffusion samples: there is no folder {folder}\n{hint}")
    files = list_images(folder)
    if not files:
        raise EmptySplit(f"no images in {folder}; expected diffusion samples such as rank0_0.jpg\n{hint}")
    return ImageSource(files, cache=cache)


class OwnTextures:
    """Textures without any further data: pieces of training images and bundled textures in random colours.

    This is ours, not the paper's: results trained with it are no reproduction of the paper's.
    """

    def __init__(self, dataset: AnomalyDataset) -> None:
        """The dataset's images are read when they are drawn."""
        if len(dataset) == 0:
            raise EmptySplit("no training images to make textures from")
        self.dataset = dataset

    def draw(self, generator: Generator, count: int, size: int) -> UInt8[np.ndarray, "count size size 3"]:
        """As `Source.draw`; half of the textures are bundled ones, all are changed as DTD's are.

        Where the training images are grey, textures are made grey: their defects have no colour either.
        """
        drawn = []
        for bundled in generator.random(count) < BUNDLED_SHARE:
            (image,) = self.dataset.pixels([int(generator.integers(len(self.dataset)))])
            texture = (
                _coloured(generator, size) if bundled else _shuffled(resize(image, (size, size)), generator)
            )
            texture = augment(_posed(texture, generator), generator)
            coloured = (image != image[..., :1]).any()
            drawn.append(texture if coloured else np.repeat(grey(texture)[..., None], 3, axis=2))
        return np.stack(drawn)


class OtherImages:
    """Training images in another pose and place: nearly normal, as diffusion samples are.

    This is ours, not the paper's.
    """

    def __init__(self, dataset: AnomalyDataset) -> None:
        """The dataset's images are read when they are drawn."""
        self.dataset = dataset

    def draw(self, generator: Generator, count: int, size: int) -> UInt8[np.ndarray, "count size size 3"]:
        """As `Source.draw`; what leaves the picture on one side comes in on the other."""
        images = self.dataset.pixels(generator.integers(len(self.dataset), size=count).tolist())
        moved = []
        for image in images:
            posed = _posed(resize(image, (size, size)), generator)
            moved.append(np.roll(posed, tuple(generator.integers(0, size, 2).tolist()), axis=(0, 1)))
        return np.stack(moved)


def _shuffled(image: Image, generator: Generator) -> Image:
    """A square image, cut into equal squares that change places."""
    size = len(image)
    pieces = int(generator.choice([number for number in PIECES if size % number == 0]))
    side = size // pieces
    squares = image.reshape(pieces, side, pieces, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    squares = squares[generator.permutation(len(squares))]
    return squares.reshape(pieces, pieces, side, side, 3).swapaxes(1, 2).reshape(image.shape)


def _coloured(generator: Generator, size: int) -> Image:
    """A random square of a bundled texture, from one random colour at its black to another at its white."""
    texture = _bundled()[int(generator.integers(len(BUNDLED)))]
    side = int(generator.integers(len(texture) // 4, len(texture) + 1))
    top, left = generator.integers(0, len(texture) - side + 1, 2)
    square = resize(texture[top : top + side, left : left + side, None], (size, size))[..., 0]
    dark, light = generator.integers(0, 256, (2, 3))
    table = dark + np.arange(256)[:, None] / 255 * (light - dark)
    return np.rint(table).astype(np.uint8)[square]


def _posed(image: Image, generator: Generator) -> Image:
    """The image after quarter turns, mirrored in half of the cases."""
    turned = np.rot90(image, int(generator.integers(4)))
    return turned[:, ::-1] if generator.random() < 0.5 else turned


@cache
def _bundled() -> tuple[UInt8[np.ndarray, "512 512"], ...]:
    return tuple(getattr(skimage.data, name)() for name in BUNDLED)
