"""What is said of images while they are scored, each thing once: where pixels may mean something else."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from adcommon.data.preprocess import Preprocess
from adcommon.errors import UnreadableImage
from adcommon.io.headers import Header, read_header
from adcommon.io.images import has_transparent_pixels
from adcommon.io.text import printable

_DARK = 32
"""Of 255: an eighth of the range."""


def is_dark(header: Header, pixels: UInt8[np.ndarray, "*tiles height width 3"]) -> bool:
    """True for an image of more than 8 bits that uses less than an eighth of their range."""
    return header.is_deep and int(pixels.max()) <= _DARK


class Cautions:
    """Looks at one image after the other."""

    def __init__(self, preprocess: Preprocess) -> None:
        """`preprocess` is what the images are scored with."""
        self._preprocess = preprocess
        self._done: set[str] = set()

    def of(
        self, path: Path | None, pixels: UInt8[np.ndarray, "*tiles size size 3"], size: tuple[int, int]
    ) -> Iterator[str]:
        """What is to be said of an image, and was not said of one before.

        Args:
            path: None: it came from memory.
            pixels: as the network takes them.
            size: (width, height) of the image itself.
        """
        yield from self._once("unseen", self._preprocess.unseen_words(*size))
        if path is not None:
            with suppress(UnreadableImage, OSError):  # it is gone, or was written over, since it was decoded
                yield from self._of_file(path, pixels)

    def _of_file(self, path: Path, pixels: UInt8[np.ndarray, "*tiles size size 3"]) -> Iterator[str]:
        header, name = read_header(path), printable(path)
        if is_dark(header, pixels):
            yield from self._once(
                "dark",
                f"{name} uses less than an eighth of its 16 bits and is read as almost black: train with "
                "--white 4095 for a camera of 12 bits, or multiply the values",
            )
        if header.pages > 1:
            yield from self._once("pages", f"{name} has {header.pages} pages, of which the first is scored")
        if header.orientation != 1 and not self._preprocess.upright:
            words = "is to be turned by EXIF, and is scored as it is stored: train with --upright"
            yield from self._once("lying", f"{name} {words}")
        if header.has_alpha and "alpha" not in self._done:
            self._done.add("alpha")  # it is decoded for this: one tells of all
            if has_transparent_pixels(path):
                yield f"{name} has transparent pixels, whose hidden colours are scored: save it without alpha"

    def _once(self, kind: str, words: str | None) -> Iterator[str]:
        if words is not None and kind not in self._done:
            self._done.add(kind)
            yield words
