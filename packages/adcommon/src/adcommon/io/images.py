"""Open one RGB image or one mask; the only caller of Pillow's decoder."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped
from PIL import Image

from adcommon.errors import DatasetNotFound, MaskMissing, MaskSizeMismatch, UnreadableImage
from adcommon.io.files import download_gone_wrong

IMAGE_EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""Suffixes, in lower case, of the files that count as images."""

_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_EXIF_ORIENTATION = 0x0112
_SWAPS_SIDES = (5, 6, 7, 8)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each EXIF orientation upright; Pillow's own function fails where EXIF is damaged."""
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


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


def open_image(
    source: Path | Image.Image,
    *,
    upright: bool = False,
    expected_size: tuple[int, int] | None = None,
    convert: bool = True,
) -> Image.Image:
    """Decode an image to 8-bit RGB.

    Grey is replicated, 16-bit values are scaled by the largest value of their type, alpha is dropped.

    Args:
        source: a file, or an image that is open already, which stays as it is.
        upright: apply the EXIF orientation.
        convert: False leaves 8-bit modes (grey, palette, with alpha, CMYK) as they are, for those who resize
            first; `convert("RGB")` does the rest.
        expected_size: (width, height) of the mask. Of the stored and the upright image, the one of this size
            is taken; `upright` decides where both fit.

    Raises:
        UnreadableImage: not an image, or a damaged one.
        MaskSizeMismatch: neither orientation has the expected size.
    """
    try:
        with nullcontext(source) if isinstance(source, Image.Image) else Image.open(source) as image:
            image.load()
            if expected_size is not None:
                upright = _is_upright_expected(source, image, upright, expected_size)
            turn = _TURNS.get(image.getexif().get(_EXIF_ORIENTATION, 1)) if upright else None
            turned = image if turn is None else image.transpose(turn)
            return turned.copy() if not convert and image.mode in _EIGHT_BIT else _to_rgb(turned)
    except MaskSizeMismatch:
        raise
    except _DECODER_ERRORS as error:
        if isinstance(source, Image.Image):
            name = getattr(source, "filename", "") or "in memory"
            raise UnreadableImage(f"cannot read the image {name}: {error}") from None
        raise _unreadable(source, error) from None


def open_mask(path: Path) -> Bool[np.ndarray, "height width"]:
    """Decode a mask at its own size: True where any stored value (grey, palette index or colour) is above 0.

    A folder is a mask in several parts, whose union is returned.
    """
    if path.is_dir():
        return _union(path)
    return np.asarray(mask_values(path) > 0)


def mask_values(path: Path) -> Shaped[np.ndarray, "height width"]:
    """The stored values of a mask's file: grey, palette index, or the largest of its colours; alpha apart."""
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
            has_alpha = image.mode in ("LA", "PA", "RGBA")
    except _DECODER_ERRORS as error:
        raise _unreadable(path, error) from None
    if values.ndim == 3:
        values = (values[..., :-1] if has_alpha else values).max(axis=-1)
    return np.asarray(values)


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of a file as stored, without decoding it; of a mask in parts, its first part's."""
    if path.is_dir():
        path = _parts(path)[0]
    try:
        with Image.open(path) as image:
            return image.size
    except _DECODER_ERRORS as error:
        raise _unreadable(path, error) from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError(
            "floating-point pixels have no known white; save the image with 8 or 16 bits per channel"
        )
    if image.mode.startswith("I"):
        values = np.asarray(image)
        white = np.iinfo(values.dtype).max
        return Image.fromarray(np.rint(values.clip(0) * (255 / white)).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _is_upright_expected(
    source: Path | Image.Image, image: Image.Image, preferred: bool, expected_size: tuple[int, int]
) -> bool:
    width, height = image.size
    turned = image.getexif().get(_EXIF_ORIENTATION) in _SWAPS_SIDES
    sizes = {False: (width, height), True: (height, width) if turned else (width, height)}
    fitting = [upright for upright, size in sizes.items() if size == expected_size]
    if not fitting:
        raise MaskSizeMismatch(
            f"image and mask differ in size: {source} is {width}x{height}, "
            f"its mask is {expected_size[0]}x{expected_size[1]} (width x height)"
        )
    return preferred if preferred in fitting else fitting[0]


def _parts(folder: Path) -> list[Path]:
    parts = list_images(folder)
    if not parts:
        raise MaskMissing(f"no mask images in {folder}; expected one image for each part of the mask")
    return parts


def _union(folder: Path) -> Bool[np.ndarray, "height width"]:
    first, *others = _parts(folder)
    union = open_mask(first)
    for part in others:
        mask = open_mask(part)
        if mask.shape != union.shape:
            raise MaskSizeMismatch(
                f"parts of one mask differ in size: {first} is {union.shape[1]}x{union.shape[0]}, "
                f"{part} is {mask.shape[1]}x{mask.shape[0]} (width x height)"
            )
        union |= mask
    return union


def _unreadable(path: Path, error: Exception) -> UnreadableImage:
    """The error that says why a file is no image, in the decoder's words or better ones."""
    reason = str(error) or type(error).__name__
    if not path.exists():
        reason = "no such file"
    elif path.is_file():
        reason = download_gone_wrong(path) or reason
    return UnreadableImage(f"cannot read the image {path}: {reason}")
