"""What a model can be given, files, folders and images in memory, and how that becomes pixels. No torch."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, EmptySplit, UserError
from adcommon.io.listing import Listing, describe, list_tree
from adcommon.results.drawing import reduced

Read = Callable[[], bytes]
"""Fetches what a file holds, from wherever it lies, in a thread that decodes."""
Source = str | Path | bytes | Read | Image.Image | np.ndarray
"""One image: its file, what that holds, or uint8 pixels of height x width x 3 (RGB) or height x width."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image as the network takes it."""

    path: Path | None
    """None: it came from memory."""
    pixels: UInt8[np.ndarray, "tiles size size 3"]
    """Of one tile, or of all that it is cut into."""
    height: int
    """Of the image itself, pixels."""
    width: int
    appearance: Float64[np.ndarray, " statistics"]
    """Of the image itself, see `data.kind`."""
    view: Image.Image | None = None
    """The image as pictures show it; None: nobody asked for it."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image that could not be decoded, and why."""

    path: Path | None
    error: str


def list_inputs(inputs: Path, out: Path | None = None) -> Listing:
    """The image at `inputs`, or what is in that folder at any depth; what is below `out` is left out.

    Images come folder by folder as people count: 2.png before 10.png.

    Raises:
        BadValue: nothing is there.
        EmptySplit: no images are there; it says what is.
    """
    if inputs.is_file():
        return Listing([inputs])
    if not inputs.is_dir():
        raise BadValue(f"no image or folder at {inputs}; expected an image file or a folder of images")
    listing = list_tree(inputs, without=[] if out is None else [out])
    if not listing.images:
        found = describe(listing.passed_over).replace("\n", "\n  ")
        raise EmptySplit(
            f"no images in {inputs} or its sub-folders; expected files such as part.png or part.jpg"
            + (f"\n  Not used: {found}" if found else "")
        )
    return Listing(sorted(listing.images, key=natural), listing.passed_over)


def natural(path: Path) -> tuple[tuple[tuple[int, str, int], ...], ...]:
    """Sorts paths part by part, and numbers in them by their value.

    >>> sorted(map(Path, ["10.png", "b/1", "2.png", "a2", "a10"]), key=natural)[:4]
    [PosixPath('2.png'), PosixPath('10.png'), PosixPath('a2'), PosixPath('a10')]
    """
    return tuple(
        tuple(
            (0, "", int(piece)) if piece.isdecimal() else (1, piece, 0)
            for piece in re.split(r"([0-9]+)", part)
            if piece
        )
        for part in path.parts
    )


def find_images(inputs: Path) -> list[Path]:
    """The images alone."""
    return list_inputs(inputs).images


def is_single(images: Source | Iterable[Source]) -> bool:
    """True for one image, false for a folder or several images."""
    if isinstance(images, str | Path):
        return not Path(images).is_dir()
    return isinstance(images, bytes | Image.Image | np.ndarray) or callable(images)


def each(images: Source | Iterable[Source]) -> Iterable[Source]:
    """One image after the other; of a folder those at any depth, in the order of their paths."""
    if isinstance(images, str | Path):
        return find_images(Path(images))
    return [images] if isinstance(images, bytes | Image.Image | np.ndarray) or callable(images) else images


def decoded(
    images: Iterable[Source],
    preprocess: Preprocess,
    batch_size: int,
    workers: int,
    *,
    ahead: int = 2,
    view: int | None = None,
) -> Iterator[list[Decoded | Unreadable]]:
    """Batches of images in their order; threads decode so many batches ahead of the one that is given.

    Args:
        view: see `decode`.
    """
    remaining = iter(images)
    waiting: deque[Future[Decoded | Unreadable]] = deque()
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        while True:
            for image in islice(remaining, (1 + ahead) * batch_size - len(waiting)):
                waiting.append(pool.submit(decode, _opened(image), preprocess, view=view))
            if not waiting:
                return
            yield [waiting.popleft().result() for _ in range(min(batch_size, len(waiting)))]
    finally:
        pool.shutdown(cancel_futures=True)


def _opened(image: object) -> Path | bytes | Read | Image.Image:
    """The file, what it holds or what fetches that, or an image in memory that nobody else will change."""
    if isinstance(image, str | Path):
        return Path(image)
    if isinstance(image, bytes | Image.Image) or callable(image):
        return image
    given = type(image).__name__
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.size and (image.ndim == 2 or image.shape[2:] == (3,)):
            return Image.fromarray(image.copy())  # a camera may write its next image into the same array
        given = f"a {image.dtype} array of shape {image.shape}"
    raise BadValue(
        f"cannot take {given} for an image; expected a path, bytes of a file, a Pillow image, or a uint8 "
        "array of shape (height, width, 3) in RGB or (height, width) in grey; several images go into a list"
    )


def decode(
    image: Path | bytes | Read | Image.Image, preprocess: Preprocess, *, view: int | None = None
) -> Decoded | Unreadable:
    """One image as the network takes it, or why there is none.

    Args:
        view: longest side of a view of it that is kept for pictures, pixels; None: none is.
    """
    path = image if isinstance(image, Path) else None
    try:
        with preprocess.opened(image() if callable(image) else image) as whole:
            pixels, (width, height), appearance = preprocess.read_opened(whole)
            shown = None if view is None else reduced(whole, view)
        return Decoded(path, pixels, height, width, appearance, shown)
    except (UserError, OSError) as error:
        return Unreadable(path, str(error))
