"""Defects for those who have none: pieces of normal images, pasted into others.

They say which method notices that something does not belong; of real defects they say less than a handful of
these would.

Source: CutPaste, Li et al., CVPR 2021 (arXiv 2104.04015): patches and scars, with changed colours.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, ImageFilter

from adcommon.io.files import atomic_write
from adcommon.io.images import picture
from adcommon.results.pictures import png
from adcommon.types.records import Record, Split

LONGEST_SIDE = 2048
"""Of the written images, pixels; larger ones are made smaller, unless their own pixels count."""
DEFECT = "pasted"


def with_proxies(
    normal: Sequence[Record], folder: Path, *, share: float, seed: int, own_size: bool = False
) -> Split:
    """Normal images kept out of training, as they are and with a pasted defect each, written to `folder`.

    Args:
        normal: images of one category, without known defects.
        share: of them that is kept out, at least two.
        seed: draws which, and the defects.
        own_size: keep large images as large as they are.
    """
    generator = np.random.default_rng(seed)
    kept_out = set(generator.permutation(len(normal))[: max(2, round(share * len(normal)))].tolist())
    training = [record for place, record in enumerate(normal) if place not in kept_out]
    test = []
    for number, place in enumerate(sorted(kept_out)):
        record = normal[place]
        donor = training[int(generator.integers(len(training)))] if training else record
        image, other = (_pixels(each.image, own_size) for each in (record, donor))
        spoiled, mask = paste(image, other, generator)
        name, category = f"{number:04d}.png", record.category
        files = [folder / kind / name for kind in ("good", DEFECT, "masks")]
        for file, pixels in zip(files, (image, spoiled, _as_picture(mask)), strict=True):
            atomic_write(file, png(pixels))
        good, bad, truth = files
        test += [Record(good, category, 0), Record(bad, category, 1, DEFECT, truth)]
    return Split(training, sorted(test, key=lambda record: record.image))


def paste(
    image: UInt8[np.ndarray, "height width 3"],
    donor: UInt8[np.ndarray, "_ _ 3"],
    generator: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]:
    """The image with a piece of another in it, and where: a patch or a scar, 0.05 to 1 % of the image."""
    height, width = image.shape[:2]
    area = generator.uniform(0.0005, 0.01) * height * width
    ratio = generator.uniform(1, 2) if generator.integers(2) else generator.uniform(4, 12)
    long, short = (area * ratio) ** 0.5, (area / ratio) ** 0.5
    turned = generator.uniform(0, np.pi)
    corners = np.array([(-long, -short), (long, -short), (long, short), (-long, short)]) / 2
    rotation = np.array([(np.cos(turned), np.sin(turned)), (-np.sin(turned), np.cos(turned))])
    corners = corners @ rotation
    ends, middle = np.abs(corners).max(axis=0), np.array((width, height)) / 2
    centre = generator.uniform(np.minimum(ends, middle), np.maximum(2 * middle - ends, middle))
    drawn = Image.new("L", (width, height))
    ImageDraw.Draw(drawn).polygon([tuple(corner) for corner in (centre + corners).tolist()], fill=255)
    soft = np.asarray(drawn.filter(ImageFilter.GaussianBlur(max(1, min(height, width) / 512))))
    piece = np.asarray(Image.fromarray(donor).resize((width, height)))
    piece = np.roll(np.rot90(piece, 2), tuple(generator.integers((height, width))), axis=(0, 1))
    changed = piece * (generator.uniform(0.7, 1.3) * generator.uniform(0.95, 1.05, size=3))
    alpha = soft[..., None] / 255
    mixed = image * (1 - alpha) + changed.clip(0, 255) * alpha
    return np.rint(mixed).astype(np.uint8), np.asarray(drawn) > 0


def _as_picture(mask: Bool[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width 3"]:
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)


def _pixels(path: Path, own_size: bool) -> UInt8[np.ndarray, "height width 3"]:
    with picture(path, upright=True) as image:
        small = image.copy()
        if not own_size:
            small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        return np.asarray(small.convert("RGB"))
