"""Images and masks as they are meant, and which files are images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped
from PIL import Image

from adcommon.errors import DatasetNotFound, MaskMissing, MaskSizeMismatch, UnreadableImage
from adcommon.io.decoding import FORMATS, header, opened
from adcommon.io.headers import is_deep_image, orientation_of, turn_image

IMAGE_EXTENSIONS = frozenset(FORMATS)
"""Suffixes, in lower case, of the files that count as images."""

_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_WHITE_16 = 2**16 - 1
_BAND_PIXELS = 2**17


def list_images(folder: Path) -> list[Path]:
    """The images directly in a folder, sorted by name in code-point order; hidden files are left out."""
    return list_folder(folder, is_image)


def list_folder(folder: Path, wanted: Callable[[Path], bool] = Path.exists) -> list[Path]:
    """What lies directly in a folder and is `wanted`, by name in code-point order; of no folder, nothing.

    Raises:
        DatasetNotFound: the folder cannot be read.
    """
    try:
        found = [path for path in folder.iterdir() if wanted(path)] if folder.is_dir() else []
    except OSError as error:
        raise DatasetNotFound(
            f"cannot read the folder {folder}: {error.strerror}\n  Make it readable, or remove it."
        ) from None
    return sorted(found, key=lambda path: path.name)


def is_image(path: Path) -> bool:
    """True for a visible file whose suffix, in any case, is one of `IMAGE_EXTENSIONS`."""
    return path.suffix.lower() in IMAGE_EXTENSIONS and not path.name.startswith(".") and path.is_file()


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of a file as stored, without decoding it; of a mask in parts, its first part's."""
    with header(_parts(path)[0] if path.is_dir() else path) as image:
        return image.size


@contextmanager
def picture(
    source: Path | bytes | Image.Image,
    *,
    upright: bool = False,
    late_rgb: bool = False,
    white: int | None = None,
) -> Iterator[Image.Image]:
    """Decode an image to 8 bits, grey or RGB, for as long as the block lasts; not to be changed there.

    Alpha is dropped.

    Args:
        source: a file, what it holds, or an image that is open already, which stays as it is.
        upright: apply the EXIF orientation.
        late_rgb: leave 8-bit modes (palette, with alpha, CMYK) as they are, for those who resize first;
            `convert("RGB")` does the rest.
        white: value of white of images of more than 8 bits; None: 65,535.

    Raises:
        UnreadableImage: not an image, a damaged one, or one above the limit of pixels.
    """
    if isinstance(source, Path | bytes):
        with opened(source) as image:
            orientation = orientation_of(image) if upright else 1
            if white is not None and is_deep_image(image) and not image.mode.startswith("I"):
                raise ValueError(
                    "colour of 16 bits is read as 8, to which --white does not apply; save it with 8 bits"
                )
            image.load()
            yield _eight_bit(turn_image(image, orientation), late_rgb, white)
        return
    try:
        source.load()
        ready = _eight_bit(turn_image(source, orientation_of(source) if upright else 1), late_rgb, white)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        name = getattr(source, "filename", "") or "in memory"
        raise UnreadableImage(f"cannot read the image {name}: {error}") from None
    yield ready


def open_image(
    source: Path | Image.Image, *, upright: bool = False, late_rgb: bool = False, white: int | None = None
) -> Image.Image:
    """As `picture`, to keep: an RGB image, or with `late_rgb` one of 8 bits."""
    with picture(source, upright=upright, late_rgb=late_rgb, white=white) as image:
        ready = image if late_rgb or image.mode == "RGB" else image.convert("RGB")
        return ready.copy() if ready is source else ready


def has_transparent_pixels(path: Path) -> bool:
    """True if any pixel of an image is not fully opaque: its colour may be anything."""
    with opened(path) as image:
        return image.has_transparency_data and bool((np.asarray(image.convert("RGBA"))[..., 3] < 255).any())


def bands(height: int, width: int) -> Iterator[slice]:
    """The rows of a picture, some at a time, so that what is made of them in between stays in the cache."""
    rows = max(1, _BAND_PIXELS // width)
    return (slice(first, first + rows) for first in range(0, height, rows))


def open_mask(path: Path, *, by_index: bool = False) -> Bool[np.ndarray, "height width"]:
    """Decode a mask at its own size: True where it is not black.

    A folder is a mask in several parts, whose union is returned.

    Args:
        by_index: as `mask_values`.
    """
    if path.is_dir():
        return _union(path, by_index)
    return np.asarray(mask_values(path, by_index=by_index) > 0)


def mask_values(path: Path, *, by_index: bool = False) -> Shaped[np.ndarray, "height width"]:
    """The values of a mask's file: grey, or the largest of a pixel's colours, also of those in a palette.

    Where colours say nothing and some pixels are transparent, these are 0 and the others not. A palette
    that is black throughout says nothing either: then its indices count.

    Args:
        by_index: the indices count in any case; for published masks that number kinds of defects.

    Raises:
        UnreadableImage: not an image, or one whose values can be understood in two ways.
    """
    with opened(path) as image:
        image.load()
        is_black = image.mode == "P" and not any(image.getpalette() or [])
        if image.mode == "P" and (by_index or is_black):
            return np.asarray(image)
        return _mask_values(image)


def _eight_bit(image: Image.Image, late_rgb: bool, white: int | None) -> Image.Image:
    if image.mode == "F":
        raise ValueError(
            "floating-point pixels have no known white; save the image with 8 or 16 bits per channel"
        )
    if image.mode.startswith("I"):
        return _scaled(np.asarray(image), white or _WHITE_16)
    if image.mode == "L" or (late_rgb and image.mode in _EIGHT_BIT):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _scaled(values: Shaped[np.ndarray, "height width"], white: int) -> Image.Image:
    """Grey of 8 bits from values up to `white`."""
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > _WHITE_16:
        raise ValueError(
            f"its 32-bit values go from {lowest} to {highest} and what is white is unknown; save it with 8 "
            "or 16 bits per channel"
        )
    table = np.rint(np.arange(_WHITE_16 + 1).clip(max=white) * (255 / white)).astype(np.uint8)
    grey = np.empty(values.shape, dtype=np.uint8)
    for band in bands(*values.shape):
        grey[band] = table[values[band]]
    return Image.fromarray(grey)


def _mask_values(image: Image.Image) -> Shaped[np.ndarray, "height width"]:
    if image.mode == "F" or image.mode.startswith("I"):
        numbers = np.asarray(image)
        if not (numbers >= 0).all():
            raise ValueError(
                "it has values below 0 or that are no numbers; save it with 0 where it is normal"
            )
        return numbers
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return np.asarray(image)
    has_alpha = image.has_transparency_data
    pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    values: np.ndarray = pixels[..., :3].max(axis=-1)
    if not has_alpha or (opaque := pixels[..., 3] > 0).all() or not opaque.any():
        return values
    if values.all() or not values.any():
        return pixels[..., 3].copy()
    if values[~opaque].any():
        raise ValueError(
            "it has colours where it is transparent, which can be understood in two ways; save it in grey, "
            "with 0 where it is normal"
        )
    return values


def _parts(folder: Path) -> list[Path]:
    parts = list_images(folder)
    if not parts:
        raise MaskMissing(f"no mask images in {folder}; expected one image for each part of the mask")
    return parts


def _union(folder: Path, by_index: bool) -> Bool[np.ndarray, "height width"]:
    first, *others = _parts(folder)
    union = open_mask(first, by_index=by_index)
    for part in others:
        mask = open_mask(part, by_index=by_index)
        if mask.shape != union.shape:
            raise MaskSizeMismatch(
                f"parts of one mask differ in size: {first} is {union.shape[1]}x{union.shape[0]}, "
                f"{part} is {mask.shape[1]}x{mask.shape[0]} (width x height)"
            )
        union |= mask
    return union
