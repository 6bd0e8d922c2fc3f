"""What the recipes of both methods say: the images, the frozen network, the seed. No torch here."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from cyclopts import Parameter

from adcommon.errors import BadValue
from adcommon.io.schema import check_fields
from adcommon.types.arithmetic import Arithmetic, refuse_halves
from adcommon.types.values import (
    Count,
    NotNegative,
    Positive,
    Seed,
    ShareBelowOne,
    Side,
    White,
    multiple_near,
)

Strides = Annotated[tuple[Positive, ...], Parameter(consume_multiple=True)]


@dataclass(frozen=True, kw_only=True)
class Base(Arithmetic):
    """Settings of one model."""

    halves: ClassVar[bool] = False

    dataset: str = "mvtec"
    """Dataset name; `ad datasets` lists them."""
    backbone: str = "wide_resnet50_2.tv_in1k"
    """timm tag of the frozen network: a convolutional one with maps of the `strides`, or a vision transformer
    with `layers`."""
    strides: Strides = (4, 8, 16)
    """Of the maps to use, pixels per cell, rising."""
    layers: Annotated[tuple[Count, ...], Parameter(consume_multiple=True)] = ()
    """Blocks of a vision transformer to use instead, counted from 0."""
    norm: bool = True
    """Put a transformer's tokens through its last norm."""

    image_size: Side = 256
    """Side after the resize, pixels."""
    crop_size: Side | None = 224
    """Side of the centre crop, pixels; none: as image-size."""
    upright: bool = False
    """Apply the photographs' EXIF orientation."""
    white: White | None = None
    """Value of white of images of more than 8 bits, 4095 of a camera of 12; else 65,535."""
    tile: Positive | None = None
    """Side of the squares that photographs are cut into, their own pixels; none: they are looked at whole."""
    overlap: Count | None = None
    """Pixels that neighbouring tiles share at least; none: an eighth of a tile."""

    blur: NotNegative = 4.0
    """Deviation of the Gaussian that smooths the map, pixels of the network's input."""
    batch_size: Positive = 16
    """Images per pass through the network; the last digits of features depend on it."""
    shots: Count = 0
    """Use this many normal images alone, drawn by the seed; 0: all."""
    seed: Seed = 0
    """Of everything drawn at random."""
    calibration_share: ShareBelowOne = 0.0
    """Share of the normal images kept out of the model to choose the decision threshold; where they would be
    few for its false-alarm rate, all make the model, and each is scored by the model of the others, but with
    tiles more are kept out. 0: no threshold."""

    def __post_init__(self) -> None:
        """Refuse values of another type or out of range."""
        check_fields(self)
        refuse_halves(self.precision)
        if self.compile:
            raise BadValue("--compile has no effect here, where nothing is trained; leave it out")
        if self.size > self.image_size:
            unit = 1 if self.layers else max(self.strides, default=1)
            raise BadValue(
                f"crop_size is {self.size}, of images of {self.image_size} pixels; expected at most as many, "
                f"such as --crop-size {max(1, self.image_size // unit) * unit}"
            )
        if not self.layers and not self.strides:
            raise BadValue("strides is empty; expected such as --strides 8 16")
        if not self.layers and self.size % (unit := max(self.strides)):
            flag = "--image-size" if self.crop_size is None else "--crop-size"
            raise BadValue(
                f"the network's input has sides of {self.size} pixels ({flag}) and strides {self.strides}; "
                f"expected a multiple of the largest, such as {flag} {multiple_near(self.size, unit)}"
            )

    @property
    def size(self) -> int:
        """Side of the network's input, pixels."""
        return self.image_size if self.crop_size is None else self.crop_size
