"""Image and mask on disk -> arrays of one size, and the way back for maps. No torch; see `normalise`."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Shaped, UInt8
from PIL import Image

from adcommon.data import tiling
from adcommon.data.kind import appearance
from adcommon.errors import BadValue, MaskSizeMismatch
from adcommon.io.headers import read_header, turn_values
from adcommon.io.images import bands, open_image, open_mask, picture
from adcommon.io.schema import check_fields, shown
from adcommon.types.records import Box, Record
from adcommon.types.values import AboveZero, Count, Positive, Side, White

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_UNSEEN_WORTH_A_WORD = 0.05


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How an image, or each tile of it, becomes a square network input: resize, centre crop, normalise.

    `Preprocess(**asdict(preprocess))` is the same again, also after a detour through JSON.
    """

    image_size: Side = 256
    """Side after the resize, pixels."""
    crop_size: Side | None = None
    """Side of the centre crop, pixels; None: as `image_size`."""
    fit: Literal["stretch", "short_side"] = "stretch"
    """"stretch": both sides become `image_size`; "short_side": the shorter one does, the proportions stay."""
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"] = "bilinear"
    """Pillow's filter, antialiased when shrinking."""
    mean: Sequence[float] = IMAGENET_MEAN
    """Of red, green and blue in [0, 1]; kept as a tuple."""
    std: Sequence[AboveZero] = IMAGENET_STD
    """The same."""
    mask_rule: Literal["nearest", "any", "half"] = "nearest"
    """Which pixels of the resized mask are anomalous. "nearest": where the nearest pixel is; "any": where the
    antialiased bilinear filter touches an anomalous one, which grows regions (ReContrast); "half": where that
    filter gives at least 0.5."""
    upright: bool = False
    """Apply the EXIF orientation, to every image alike."""
    rgb: Literal["first", "last"] = "first"
    """When an image of 8 bits becomes RGB: "last", after resize and crop, as InCTRL does: a palette is then
    resized by nearest neighbour, and alpha is dropped only afterwards."""
    white: White | None = None
    """Value of white of images of more than 8 bits, 4095 of a camera of 12; None: 65,535."""
    tile: Positive | None = None
    """Side of the squares that an image is cut into, its own pixels; None: it is looked at whole."""
    overlap: Count | None = None
    """Pixels that neighbouring tiles share at least; None: an eighth of a tile."""

    def __post_init__(self) -> None:
        """Accept lists from JSON and refuse impossible sizes."""
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        check_fields(self)
        if len(self.mean) != 3 or len(self.std) != 3:
            raise BadValue(f"mean is {shown(self.mean)}, std {shown(self.std)}; expected three values each")
        if not 1 <= self.size <= self.image_size:
            raise BadValue(
                f"crop_size is {self.crop_size}; expected 1 to image_size = {self.image_size} pixels"
            )
        if self.tile is None:
            if self.overlap is not None:
                raise BadValue("--overlap is of tiles; give their side too, such as --tile 512")
        elif self.size < self.image_size:
            raise BadValue(
                f"tiles are looked at whole, and --crop-size {self.size} cuts their borders off; expected "
                f"{self.image_size}, which is --image-size"
            )
        elif (self.overlap or 0) >= self.tile:
            raise BadValue(f"--overlap is {self.overlap}; expected less than --tile, {self.tile} pixels")

    @property
    def size(self) -> int:
        """Side of the network's input, pixels."""
        return self.image_size if self.crop_size is None else self.crop_size

    def key(self) -> str:
        """Stable text of everything that changes `pixels`; for caches."""
        last = "-rgb last" if self.rgb == "last" else ""
        white = "" if self.white is None else f"-white {self.white}"
        return (
            f"{self.image_size}-{self.size}-{self.fit}-{self.interpolation}-"
            f"{'up' if self.upright else 'raw'}{last}{white}"
        )

    def size_of(self, image: Path) -> tuple[int, int]:
        """(width, height) of an image as it is loaded, before it is resized; it is not decoded."""
        header = read_header(image)
        return header.upright_size if self.upright else header.size

    @property
    def shared(self) -> int:
        """Pixels that neighbouring tiles share at least."""
        return (self.tile or 0) // 8 if self.overlap is None else self.overlap

    def boxes(self, width: int, height: int) -> list[Box]:
        """What is looked at by itself of an image of this size: its tiles, or the whole of it."""
        if self.tile is None:
            return [(0, 0, width, height)]
        return tiling.boxes(width, height, self.tile, self.shared)

    def tiles_of_all(self, images: Sequence[Path]) -> int:
        """Into how many tiles each of some images is cut.

        Raises:
            BadValue: not all into as many.
        """
        by_count = {len(self.boxes(*self.size_of(image))): image for image in images}
        if len(by_count) > 1:
            one, other = list(by_count.values())[:2]
            sizes = ["{}x{}".format(*self.size_of(image)) for image in (one, other)]
            raise BadValue(
                f"references that are cut into tiles must have one size: {one} has {sizes[0]} pixels, "
                f"{other} has {sizes[1]}"
            )
        return next(iter(by_count))

    def unseen(self, width: int, height: int) -> float:
        """Share of an image of this size that never reaches the network, from 0 to 1."""
        left, top, right, bottom = self.boxes(width, height)[0]
        width, height = right - left, bottom - top
        seen = [self.size / self._resized_side(*sides)[0] for sides in ((width, height), (height, width))]
        return 1 - seen[0] * seen[1]

    def unseen_words(self, width: int, height: int) -> str | None:
        """A warning of what is never looked at in an image of this size; None if that is hardly anything."""
        share = self.unseen(width, height)
        if share < _UNSEEN_WORTH_A_WORD:
            return None
        side = "its shorter side becomes" if self.fit == "short_side" else "both sides become"
        return (
            f"{100 * share:.0f} % of each picture ({width}x{height}) is not looked at: {side} "
            f"{self.image_size} pixels, of which the middle {self.size}x{self.size} are taken"
        )

    def pixels(self, image: Path | Image.Image) -> UInt8[np.ndarray, "size size 3"]:
        """Decode, resize and crop a whole image; what a cache of decoded images stores."""
        with self.opened(image) as whole:
            return self._fit(whole, _RESAMPLING[self.interpolation], rgb=True)

    def original(self, image: Path) -> Image.Image:
        """An image at its own size, the way up that maps of it will have: RGB, for pictures."""
        return open_image(image, upright=self.upright, white=self.white)

    def read(
        self, image: Path | bytes | Image.Image
    ) -> tuple[UInt8[np.ndarray, "tiles size size 3"], tuple[int, int], Float64[np.ndarray, " statistics"]]:
        """The same of each of its `boxes`, and of the whole image (width, height) and its `appearance`.

        Its size is that which its maps will have, and they lie the same way up.
        """
        with self.opened(image) as whole:
            return self.read_opened(whole)

    def read_opened(
        self, whole: Image.Image
    ) -> tuple[UInt8[np.ndarray, "tiles size size 3"], tuple[int, int], Float64[np.ndarray, " statistics"]]:
        """The same of an image that `opened` gave."""
        places = self.boxes(*whole.size)
        parts = [whole] if len(places) == 1 else [whole.crop(box) for box in places]
        tiles = [self._fit(part, _RESAMPLING[self.interpolation], rgb=True) for part in parts]
        return np.stack(tiles), whole.size, appearance(whole)

    def appearance(self, image: Path | Image.Image) -> Float64[np.ndarray, " statistics"]:
        """Of the whole image alone."""
        with self.opened(image) as whole:
            return appearance(whole)

    def opened(self, image: Path | bytes | Image.Image) -> AbstractContextManager[Image.Image]:
        """An image, decoded, the way up that it is looked at, for as long as the block lasts."""
        return picture(image, upright=self.upright, late_rgb=self.rgb == "last", white=self.white)

    def join(
        self, maps: Float[np.ndarray, "tiles size size"], width: int, height: int
    ) -> Float[np.ndarray, "map_height map_width"]:
        """The map of an image of this size from those of its `boxes`."""
        places = self.boxes(width, height)
        return maps[0] if len(places) == 1 else tiling.joined(maps, places, self.shared)

    def map_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of what `join` gives."""
        places = self.boxes(width, height)
        return (self.size, self.size) if len(places) == 1 else tiling.canvas(places, self.size)

    def mask(self, record: Record) -> Bool[np.ndarray, "map_height map_width"]:
        """The mask of a whole image as it lies on its map, untiled on `pixels`; all False if there is none.

        Raises:
            MaskSizeMismatch: the mask has not the size of its image.
        """
        if record.mask is None:
            size = (self.size, self.size) if self.tile is None else self.map_size(*self.size_of(record.image))
            return np.zeros(size[::-1], dtype=bool)
        grey = Image.fromarray(self.as_loaded(open_mask(record.mask), record).astype(np.uint8) * 255)
        resampling = Image.Resampling.NEAREST if self.mask_rule == "nearest" else Image.Resampling.BILINEAR
        least = {"nearest": 1, "any": 1, "half": 128}[self.mask_rule]
        if len(self.boxes(*grey.size)) > 1:
            return np.asarray(grey.resize(self.map_size(*grey.size), resampling)) >= least
        return self._fit(grey, resampling) >= least

    def as_loaded(
        self, values: Shaped[np.ndarray, "height width"], record: Record
    ) -> Shaped[np.ndarray, "loaded_height loaded_width"]:
        """What a mask of an image says, the way up that the image is loaded.

        A mask may be drawn on the stored picture or on the upright one: its size tells, or else
        `Record.mask_upright`.

        Raises:
            MaskSizeMismatch: it has neither size.
        """
        header, size = read_header(record.image), values.shape[::-1]
        if size not in (header.size, header.upright_size):
            raise MaskSizeMismatch(
                f"image and mask differ in size: {record.image} is {header.width}x{header.height}, its mask "
                f"is {size[0]}x{size[1]} (width x height)\n  Its mask: {record.mask}"
            )
        drawn_upright = size == header.upright_size
        if header.size == header.upright_size:
            drawn_upright = self.upright if record.mask_upright is None else record.mask_upright
        if drawn_upright == self.upright:
            return values
        return turn_values(values, header.orientation, back=drawn_upright)

    def restore(
        self, network_map: Float[np.ndarray, "map_height map_width"], height: int, width: int
    ) -> Float[np.ndarray, "height width"]:
        """Put the map of a whole image, a joined one if there are tiles, on the pixels of `height` x `width`.

        Bilinear, pixel centres at halves; pixels that the crop had cut off take the value of the nearest
        pixel inside.
        """
        whole = np.empty((height, width), network_map.dtype)
        for rows, values in self.restored_bands(network_map, height, width):
            whole[rows] = values
        return whole

    def restored_bands(
        self, network_map: Float[np.ndarray, "map_height map_width"], height: int, width: int
    ) -> Iterator[tuple[slice, Float[np.ndarray, "rows width"]]]:
        """What `restore` gives, some rows at a time, and which these are: nobody need hold them all."""
        is_joined = self.tile is not None and network_map.shape != (self.size, self.size)
        down = (self.size, 0) if is_joined else self._resized_side(height, width)
        across = (self.size, 0) if is_joined else self._resized_side(width, height)
        top, bottom, below = self._neighbours(height, *down, network_map.shape[0])
        left, right, beside = self._neighbours(width, *across, network_map.shape[1])
        below, beside = below[:, None].astype(network_map.dtype), beside.astype(network_map.dtype)
        # Columns first, while rows are few: single values are picked there, whole rows copied after.
        rows = network_map.take(left, axis=1) * (1 - beside) + network_map.take(right, axis=1) * beside
        for band in bands(height, width):
            upper, lower, share = rows.take(top[band], axis=0), rows.take(bottom[band], axis=0), below[band]
            upper *= 1 - share
            lower *= share
            upper += lower
            yield band, upper

    def _resized_side(self, side: int, other: int) -> tuple[int, int]:
        """Length of one side after the resize, and where the crop begins on it."""
        if self.fit == "stretch" or side <= other:
            resized = self.image_size
        else:
            resized = math.floor(self.image_size * side / other)
        # Faithful: halves are rounded to the even neighbour, as torchvision's centre crop does.
        return resized, round((resized - self.size) / 2)

    def _neighbours(
        self, side: int, resized: int, start: int, map_side: int
    ) -> tuple[Int64[np.ndarray, " side"], Int64[np.ndarray, " side"], Float64[np.ndarray, " side"]]:
        """For each pixel of an image's side the two map places around it, and the second's share."""
        centres = (np.arange(side) + 0.5) * (resized / side)
        places = ((centres - start) * (map_side / self.size) - 0.5).clip(0, map_side - 1)
        before = places.astype(np.int64)
        return before, (before + 1).clip(max=map_side - 1), places - before

    def _fit(self, image: Image.Image, resampling: Image.Resampling, *, rgb: bool = False) -> np.ndarray:
        width, left = self._resized_side(image.width, image.height)
        height, top = self._resized_side(image.height, image.width)
        resized = image.resize((width, height), resampling)
        cropped = resized.crop((left, top, left + self.size, top + self.size))
        return np.asarray(cropped.convert("RGB") if rgb else cropped)
