"""Flips, turns and colour changes of images; all chance is a given generator's.

Colours are those of images that are 8-bit or in [0, 1], before normalisation. `turns` leaves nothing to
chance.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as tv

Image = Float[Tensor, "channels height width"] | UInt8[Tensor, "channels height width"]
Images = Float[Tensor, "batch channels height width"] | UInt8[Tensor, "batch channels height width"]


def random_orientations(
    images: Images,
    generator: Generator,
    *,
    horizontal: float,
    vertical: float,
    turn: bool,
) -> Images:
    """Each image mirrored and turned on its own chance; nothing is interpolated.

    Args:
        images: on any device; square, if they are to be turned.
        generator: on the CPU.
        horizontal: chance of a left-right flip; vertical, of a top-bottom one.
        turn: then by 0, 90, 180 or 270 degrees, each as likely.
    """
    count = len(images)

    def where(chosen: Bool[Tensor, " batch"], changed: Images) -> Images:
        return torch.where(chosen.view(-1, 1, 1, 1).to(images.device, non_blocking=True), changed, images)

    images = where(torch.rand(count, generator=generator) < horizontal, images.flip(-1))
    images = where(torch.rand(count, generator=generator) < vertical, images.flip(-2))
    quarters = torch.randint(4 if turn else 1, (count,), generator=generator)
    for quarter in range(1, 4 if turn else 1):
        images = where(quarters == quarter, images.rot90(quarter, (-2, -1)))
    return images


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
