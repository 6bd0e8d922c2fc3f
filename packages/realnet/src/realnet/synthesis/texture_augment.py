"""Changes of a texture before it is blended in: three different ones of ten, in random order; DRAEM's recipe.

Source: the ten operations that RealNet takes from imgaug 0.4.0, with its ranges and defaults.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8
from numpy.random import Generator
from PIL import Image as PillowImage
from PIL import ImageEnhance, ImageOps

from realnet.synthesis.brightness import BRIGHTNESS, Channel, add_to_hue_and_saturation

Image = UInt8[np.ndarray, "height width 3"]

APPLIED = 3
"""Operations for each texture."""


def augment(image: Image, generator: Generator) -> Image:
    """The image after three different operations, drawn with their strengths from the generator."""
    for index in generator.choice(len(OPERATIONS), APPLIED, replace=False):
        image = OPERATIONS[index](image, generator)
    return image


def gamma_contrast(image: Image, gammas: Float[np.ndarray, "3"]) -> Image:
    """255 (v/255)^gamma of each channel, truncated."""
    table = (255 * (np.arange(256)[:, None] / 255) ** gammas).astype(np.uint8)
    return np.stack([table[image[..., channel], channel] for channel in range(3)], axis=-1)


def sharpen(image: Image, factor: float) -> Image:
    """Pillow's sharpness: 0 blurs, 1 changes nothing, 2 sharpens."""
    return np.asarray(ImageEnhance.Sharpness(PillowImage.fromarray(image)).enhance(factor))


def solarize(image: Image, threshold: float) -> Image:
    """Invert what is not below the threshold, rounded down."""
    return np.where(image >= int(threshold), 255 - image, image)


def posterize(image: Image, bits: int) -> Image:
    """Keep the upper bits of each value."""
    return image & np.uint8(256 - 2 ** (8 - bits))


def autocontrast(image: Image, cutoff: int) -> Image:
    """Stretch each channel to 0..255 after `cutoff` percent of its values are cut off at both ends."""
    return np.asarray(ImageOps.autocontrast(PillowImage.fromarray(image), cutoff))


def equalize(image: Image) -> Image:
    """Flatten the histogram of each channel.

    As Pillow does, but the pixels per step are counted below level 255, not below the highest level there is.
    """
    return np.stack([_equalized(image[..., channel]) for channel in range(3)], axis=-1)


def _equalized(values: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    counts = np.bincount(values.reshape(-1), minlength=256)
    step = int(counts[:-1].sum()) // 255
    if np.count_nonzero(counts) < 2 or step == 0:
        return values
    below = np.cumsum(counts) - counts
    return ((step // 2 + below) // step).clip(0, 255).astype(np.uint8)[values]


def rotate(image: Image, degrees: float) -> Image:
    """Turn about the centre, bilinearly, with black from outside."""
    return np.asarray(PillowImage.fromarray(image).rotate(degrees, PillowImage.Resampling.BILINEAR))


def change_brightness(image: Image, space: str, factor: float, amount: float, *, add_first: bool) -> Image:
    """Multiply the brightness channel of a colour space (0..255), and add to it, in either order."""

    def change(brightness: Channel) -> Channel:
        return (brightness + amount) * factor if add_first else brightness * factor + amount

    return BRIGHTNESS[space](image, change)


def _draw_brightness(image: Image, generator: Generator) -> Image:
    space = str(generator.choice(list(BRIGHTNESS)))
    factor, amount = generator.uniform(0.8, 1.2), generator.uniform(-30, 30)
    return change_brightness(image, space, factor, amount, add_first=bool(generator.integers(2)))


def _draw_hue_and_saturation(image: Image, generator: Generator) -> Image:
    hue, saturation = generator.integers(-50, 51, 2).tolist()
    # One value range for both: 255 stands for a whole turn, of which OpenCV counts 180 steps.
    return add_to_hue_and_saturation(image, int(180 * hue / 255), saturation)


def _draw_solarize(image: Image, generator: Generator) -> Image:
    return solarize(image, generator.uniform(32, 128)) if generator.random() < 0.5 else image


OPERATIONS: tuple[Callable[[Image, Generator], Image], ...] = (
    lambda image, generator: gamma_contrast(image, generator.uniform(0.5, 2.0, 3)),
    _draw_brightness,
    lambda image, generator: sharpen(image, generator.uniform(0, 2)),
    _draw_hue_and_saturation,
    _draw_solarize,
    lambda image, generator: posterize(image, int(generator.integers(1, 9))),
    lambda image, generator: 255 - image,
    lambda image, generator: autocontrast(image, int(generator.integers(0, 21))),
    lambda image, generator: equalize(image),
    lambda image, generator: rotate(image, generator.uniform(-45, 45)),
)
"""Each draws its own strength."""
