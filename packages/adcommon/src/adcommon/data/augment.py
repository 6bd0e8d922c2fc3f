"""Flips, turns and colour changes of an image together with its mask; all chance is a given generator's.

Images are 8-bit or in [0, 1], before normalisation; geometry moves image and mask alike. `turns` leaves
nothing to chance, and takes images as the network does.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as tv

Image = Float[Tensor, "channels height width"] | UInt8[Tensor, "channels height width"]
Mask = Bool[Tensor, "height width"]


def random_flips(
    image: Image, mask: Mask, generator: Generator, *, horizontal: float = 0.5, vertical: float = 0.5
) -> tuple[Image, Mask]:
    """Mirror left-right, then top-bottom, each with its own probability."""
    if _uniform(generator) < horizontal:
        image, mask = image.flip(-1), mask.flip(-1)
    if _uniform(generator) < vertical:
        image, mask = image.flip(-2), mask.flip(-2)
    return image, mask


def random_quarter_turn(image: Image, mask: Mask, generator: Generator) -> tuple[Image, Mask]:
    """Rotate by 0, 90, 180 or 270 degrees, each as likely; sides may swap, nothing is interpolated."""
    turns = int(torch.randint(4, (), generator=generator))
    return image.rot90(turns, (-2, -1)), mask.rot90(turns, (-2, -1))


def random_colour_jitter(
    image: Image,
    generator: Generator,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    probability: float = 1.0,
) -> Image:
    """Change the colours of an RGB image; each of the four changes on its own chance, in random order.

    Args:
        brightness: factor from [max(0, 1 - brightness), 1 + brightness]; contrast and saturation likewise.
        hue: shift from [-hue, hue], in turns of the colour circle, at most 0.5.
        probability: chance of each single change.
    """
    changes = (
        (tv.adjust_brightness, max(0.0, 1 - brightness), 1 + brightness),
        (tv.adjust_contrast, max(0.0, 1 - contrast), 1 + contrast),
        (tv.adjust_saturation, max(0.0, 1 - saturation), 1 + saturation),
        (tv.adjust_hue, -hue, hue),
    )
    for index in torch.randperm(len(changes), generator=generator).tolist():
        adjust, low, high = changes[index]
        if low < high and _uniform(generator) < probability:
            image = adjust(image, _uniform(generator, low, high))
    return image


def _uniform(generator: Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def turns(
    images: Float[Tensor, "batch channels side side"], count: int
) -> Iterator[Float[Tensor, "batch channels side side"]]:
    """Square images turned by `count` equal parts of a whole turn, the first of them as they are.

    Quarters are exact. Else bilinear, and the corners show the mirrored picture, so that there is no border
    that could be learned as normal.
    """
    side = images.shape[2]
    margin = side // 4  # a square's corner is 0.21 sides outside its inner circle
    for part in range(count):
        if 4 * part % count == 0:
            yield images.rot90(4 * part // count, dims=(2, 3))
        else:
            wide = F.pad(images, (margin,) * 4, mode="reflect")
            turned = tv.rotate(wide, 360 * part / count, tv.InterpolationMode.BILINEAR)
            yield turned[:, :, margin : margin + side, margin : margin + side]
