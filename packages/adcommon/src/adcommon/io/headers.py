"""What a file says of its picture before it is decoded: size, orientation, depth, pages."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Shaped
from PIL import Image, PngImagePlugin, TiffImagePlugin
from PIL.ImageFile import ImageFile

from adcommon.io.decoding import header

_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each EXIF orientation upright."""
_SWAPS_SIDES = (5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of its picture before it is decoded."""

    width: int
    """As stored, pixels."""
    height: int
    orientation: int
    """By EXIF: 1 is upright, 2 to 8 are to be turned or mirrored."""
    pages: int
    """Pages, or pictures of an animation; only the first is ever read."""
    kind: str
    """"JPEG", "16-bit grey PNG"."""
    is_deep: bool
    """More than 8 bits per channel."""
    has_alpha: bool
    """Pixels may be transparent."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored."""
        return self.width, self.height

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) once it is turned."""
        return (self.height, self.width) if self.orientation in _SWAPS_SIDES else self.size


def read_header(path: Path) -> Header:
    """What is known of an image without decoding it.

    Raises:
        UnreadableImage: not an image.
    """
    with header(path) as image:
        is_deep = is_deep_image(image)
        grey = "grey " if image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;") else ""
        return Header(
            *image.size,
            orientation_of(image),
            1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1),  # MPO: previews
            f"{'16-bit ' if is_deep else ''}{grey}{image.format}",
            is_deep,
            image.has_transparency_data,
        )


def is_deep_image(image: ImageFile) -> bool:
    """True for an image of more than 8 bits per channel that is not decoded yet."""
    stored = str(image.tile[0].args) if image.tile else ""  # Pillow's words for it
    return image.mode.startswith("I") or ";16" in stored


def turn_values(
    values: Shaped[np.ndarray, "height width"], orientation: int, *, back: bool = False
) -> Shaped[np.ndarray, "turned_height turned_width"]:
    """Turn what lies on a stored picture of an EXIF orientation as it is turned to be upright.

    Args:
        back: the other way round, from the upright to the stored picture.
    """
    if orientation in (6, 8):
        return np.rot90(values, -1 if (orientation == 6) != back else 1)
    if orientation in (5, 7):
        values = values.T
    rows = -1 if orientation in (3, 4, 7) else 1
    columns = -1 if orientation in (2, 3, 7) else 1
    return values[::rows, ::columns]


def turn_image(image: Image.Image, orientation: int) -> Image.Image:
    """Turn a stored picture of an EXIF orientation upright; one that is upright is the result itself."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, from 1 to 8, without decoding the image; what is damaged says nothing."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1  # the decoder turns it
    try:
        if isinstance(image, PngImagePlugin.PngImageFile) and image.fp and not _has_late_exif(image.fp):
            found = Image.Image.getexif(image).get(_EXIF_ORIENTATION)  # the plugin's own decodes everything
        else:
            found = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # parsers of EXIF raise anything
        return 1
    return found if isinstance(found, int) and found in _TURNS else 1


def _has_late_exif(file: IO[bytes] | BytesIO) -> bool:
    """True if a PNG file has its EXIF after its pixels."""
    place = file.tell()
    file.seek(8)
    late = False
    while len(start := file.read(8)) == 8:
        late = late or start[4:] == b"IDAT"
        if late and start[4:] == b"eXIf":
            break
        file.seek(int.from_bytes(start[:4]) + 4, 1)
    file.seek(place)
    return len(start) == 8
