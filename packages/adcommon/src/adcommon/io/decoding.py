"""Pillow's decoders behind one door: which formats, how large, one huge picture at a time, whose errors."""

import io
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image
from PIL.ImageFile import ImageFile

from adcommon.errors import BadValue, UnreadableImage, UserError
from adcommon.io.files import download_gone_wrong
from adcommon.io.text import printable

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
"""Suffix, in lower case, of the files that count as images -> the format that it stands for."""
if find_spec("pillow_heif") is not None:
    FORMATS |= {".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF", ".avif": "AVIF"}

MAX_MEGAPIXELS = 100
"""Larger pictures are refused before they are decoded, unless the variable below says otherwise."""
MAX_MEGAPIXELS_VARIABLE = "AD_MAX_MEGAPIXELS"
"""Of the environment, which loader processes inherit."""

_ONE_AT_A_TIME_PIXELS = 20_000_000
# Smaller blocks the C library keeps, for each thread, when they are freed: 1 GB after three huge pictures.
Image.core.set_block_size(2**26)
_one_at_a_time = threading.RLock()


def allow_megapixels(limit: int) -> None:
    """Set the largest picture that is decoded, in this process and those that it starts."""
    os.environ[MAX_MEGAPIXELS_VARIABLE] = str(limit)


def max_megapixels() -> int:
    """The largest picture that is decoded, in millions of pixels.

    Raises:
        BadValue: the environment says something else than a whole number from 1.
    """
    said = os.environ.get(MAX_MEGAPIXELS_VARIABLE, str(MAX_MEGAPIXELS))
    if not (said.isascii() and said.isdecimal() and 0 < int(said) < 2**31):
        raise BadValue(f"{MAX_MEGAPIXELS_VARIABLE} is {said!r}; expected a whole number of megapixels from 1")
    return int(said)


@contextmanager
def opened(source: Path | bytes) -> Iterator[ImageFile]:
    """A file's picture, its first page, not decoded yet; the file is closed at the end.

    A huge picture is for one thread at a time: the next waits until this one leaves the block.

    Args:
        source: the file, or what it holds.

    Raises:
        UnreadableImage: not an image, a damaged one, or one above the limit; also for what goes wrong in the
            block, where it is decoded.
    """
    with (
        _explained(source),
        io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file,
    ):
        limit = max_megapixels() * 1_000_000
        if Image.MAX_IMAGE_PIXELS is not None and Image.MAX_IMAGE_PIXELS < limit:
            Image.MAX_IMAGE_PIXELS = limit  # some decoders ask for it
        image = _identified(file)
        _refuse_beyond(limit, image.size)
        is_huge = image.width * image.height > _ONE_AT_A_TIME_PIXELS
        with _one_at_a_time if is_huge else nullcontext():
            yield image


@contextmanager
def header(path: Path) -> Iterator[ImageFile]:
    """A file's picture for those who do not decode it, of any size; otherwise as `opened`."""
    with _explained(path), path.open("rb") as file:
        yield _identified(file)


@contextmanager
def _explained(source: Path | bytes) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # decoders raise anything
        name = "" if isinstance(source, bytes) else f" {printable(source)}"
        raise UnreadableImage(f"cannot read the image{name}: {_reason(source, error)}") from None


def _reason(source: Path | bytes, error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    reason = None
    if isinstance(source, Path):
        if not source.exists():
            return "no such file"
        if source.is_file() and not isinstance(error, PermissionError):
            reason = download_gone_wrong(source)
    return (
        reason
        or (error.strerror if isinstance(error, OSError) else None)
        or str(error)
        or type(error).__name__
    )


def _identified(file: io.BufferedIOBase) -> ImageFile:
    prefix = file.read(16)
    for factory, accepts in _plugins().values():
        if accepts is not None and accepts(prefix) is True:
            file.seek(0)
            return factory(file, "")  # without its path, so that no decoder maps a file that may be cut short
    known = ", ".join(_plugins())
    raise ValueError(f"it holds none of the formats that are read here ({known}); convert it to one of them")


@cache
def _plugins() -> dict[str, tuple[Callable[..., ImageFile], Callable[[bytes], bool | str] | None]]:
    """What opens a file of each format, and what recognises it by its first bytes.

    `Image.open` would warn of what is within our limit, and stop what the limit was raised for.
    """
    Image.init()
    if "HEIF" in FORMATS.values():
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return {name: Image.OPEN[name] for name in dict.fromkeys(FORMATS.values()) if name in Image.OPEN}


def _refuse_beyond(limit: int, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > limit:
        needed = math.ceil(width * height / 1_000_000)
        raise ValueError(
            f"{width}x{height} are {needed} megapixels, the limit is {limit // 1_000_000}; if that is meant, "
            f"pass --max-megapixels {needed} or set {MAX_MEGAPIXELS_VARIABLE}={needed}"
        )


def _start_unlocked() -> None:
    """A forked process gets its own lock: who holds the old one may not exist there."""
    global _one_at_a_time
    _one_at_a_time = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_unlocked)
