"""The dataset `synthetic`: small textured products with drawn defects and exact masks; needs no download.

Three surfaces are crops of scikit-image's textures; the fourth product, a plate with four screws, is drawn.
Every image has its own crop, pose, light and noise. The masks are exact: outside of them a defective image
equals, pixel for pixel, the flawless image of the same seed.
"""

import logging
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.random import Generator
from PIL import Image

from adcommon.data.catalog import DATASETS
from adcommon.errors import require
from adcommon.io.cache import cache_folder, made_once

logger = logging.getLogger(__name__)

VERSION = 1
"""Raised whenever a change here moves a pixel, so that the cache never mixes two versions."""

SIDE = 256
TRAIN_IMAGES, GOOD_IMAGES, IMAGES_PER_DEFECT = 60, 20, 10

CATEGORIES = DATASETS["synthetic"].categories
SURFACE_DEFECTS = ("foreign", "hole", "scratch", "stain")
PLATE_DEFECTS = ("added", "missing", "scratch", "stain")

Picture = Float[np.ndarray, "256 256 3"]
Coverage = Float[np.ndarray, "256 256"]

_TINTS = {"brick": (1.05, 0.86, 0.76), "grass": (0.80, 1.05, 0.62), "gravel": (0.96, 0.98, 1.02)}
_FOREIGN = {"brick": "gravel", "grass": "brick", "gravel": "grass"}
_ROWS, _COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.float64)
_SCREWS = ((-74.0, -48.0), (74.0, -48.0), (-74.0, 48.0), (74.0, 48.0))
_SCREW_RADIUS = 11.0


def defects_of(category: str) -> tuple[str, ...]:
    """The kinds of defect a category is drawn with."""
    return PLATE_DEFECTS if category == "plate" else SURFACE_DEFECTS


def drawn_folders() -> Path:
    """Where the drawn images are kept, in a folder for each seed."""
    return cache_folder() / f"synthetic-{VERSION}"


def draw_category(category: str, seed: int) -> Path:
    """Draw a category into the cache, unless it is there, and return its folder, laid out as MVTec AD."""
    folder = drawn_folders() / f"seed{seed}" / category

    def draw(unfinished: Path) -> None:
        logger.info("dataset synthetic category %s drawn into %s", category, folder)
        _draw_tree(unfinished, category, seed)

    return made_once(folder, draw, "the dataset synthetic")


def draw_sample(
    category: str, defect: str | None, generator: Generator
) -> tuple[UInt8[np.ndarray, "256 256 3"], Bool[np.ndarray, "256 256"]]:
    """Draw one image and its mask; without a defect, the flawless image of the same generator."""
    product, flaw, camera = generator.spawn(3)
    pose = _Pose(product)
    picture = _plate(pose) if category == "plate" else _surface(category, product)
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    if defect is not None:
        layer, coverage, opacity = _defect(category, defect, pose, flaw)
        mask = coverage >= 0.5
        weight = np.where(mask, coverage * opacity, 0)[..., None]
        picture = picture + weight * (layer - picture)
    return _photograph(picture, camera), mask


def _draw_tree(folder: Path, category: str, seed: int) -> None:
    defects = [(f"test/{defect}", defect, IMAGES_PER_DEFECT) for defect in defects_of(category)]
    parts = [("train/good", None, TRAIN_IMAGES), ("test/good", None, GOOD_IMAGES), *defects]
    for part, (name, defect, count) in enumerate(parts):
        target = folder / name
        target.mkdir(parents=True)
        for index in range(count):
            generator = np.random.default_rng([seed, CATEGORIES.index(category), part, index])
            image, mask = draw_sample(category, defect, generator)
            Image.fromarray(image).save(target / f"{index:03d}.png", compress_level=1)
            if defect is not None:
                masks = folder / "ground_truth" / defect
                masks.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * 255).save(masks / f"{index:03d}_mask.png")


def _surface(name: str, generator: Generator) -> Picture:
    """A random crop of a texture, at a random scale, perhaps mirrored."""
    texture = _texture(name)
    side = int(generator.integers(220, 341))
    top, left = generator.integers(0, np.array(texture.shape) - side + 1)
    crop = texture[top : top + side, left : left + side]
    mirrored = crop[:: generator.choice((-1, 1)), :: generator.choice((-1, 1))]
    resized = Image.fromarray(np.ascontiguousarray(mirrored)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(resized)[..., None] / 255 * np.array(_TINTS[name])


@cache
def _texture(name: str) -> UInt8[np.ndarray, "height width"]:
    require("train", "skimage")
    from skimage import data

    return np.asarray(getattr(data, name)())


class _Pose:
    """Where the plate lies, and everything about it that differs from piece to piece."""

    def __init__(self, generator: Generator) -> None:
        from scipy import ndimage

        angle = generator.uniform(-0.07, 0.07)
        rows = _ROWS - SIDE / 2 - generator.uniform(-8, 8)
        columns = _COLUMNS - SIDE / 2 - generator.uniform(-8, 8)
        self.across = np.cos(angle) * columns + np.sin(angle) * rows
        self.down = np.cos(angle) * rows - np.sin(angle) * columns
        self.slots = generator.uniform(0, np.pi, len(_SCREWS))
        self.brushed = ndimage.gaussian_filter(generator.normal(size=(SIDE, SIDE)), (0.6, 14))
        self.belt = ndimage.gaussian_filter(generator.normal(size=(SIDE, SIDE)), 6)

    def disc(self, centre: tuple[float, float], radius: float) -> Coverage:
        """Coverage of a disc given in the plate's coordinates, antialiased at its edge."""
        distance = np.hypot(self.across - centre[0], self.down - centre[1])
        return np.clip(radius - distance + 0.5, 0, 1)

    def box(
        self, centre: tuple[float, float], half_width: float, half_height: float, corner: float
    ) -> Coverage:
        """Coverage of a box with round corners."""
        x = np.abs(self.across - centre[0]) - half_width + corner
        y = np.abs(self.down - centre[1]) - half_height + corner
        distance = np.hypot(np.maximum(x, 0), np.maximum(y, 0)) + np.minimum(np.maximum(x, y), 0)
        return np.clip(corner - distance + 0.5, 0, 1)


def _plate(pose: _Pose, screws: tuple[int, ...] = (0, 1, 2, 3)) -> Picture:
    """A brushed plate on a dark belt, with a bore, a blue label and screws whose slots point anywhere."""
    picture = (0.20 + 0.3 * pose.belt)[..., None] * np.array((1.0, 1.02, 1.05))
    metal = (0.64 + 0.5 * pose.brushed + 0.0006 * pose.across)[..., None] * np.array((1.0, 0.99, 0.96))
    picture = _over(picture, metal, pose.box((0.0, 0.0), 98.0, 72.0, 14.0))
    picture = _over(picture, np.array((0.80, 0.80, 0.78)), pose.disc((0.0, -6.0), 29.0))
    picture = _over(picture, np.array((0.10, 0.10, 0.11)), pose.disc((0.0, -6.0), 25.0))
    picture = _over(picture, np.array((0.22, 0.36, 0.62)), pose.box((0.0, 50.0), 32.0, 9.0, 2.0))
    for screw in screws:
        head = _screw(pose, _SCREWS[screw], pose.slots[screw])
        picture = _over(picture, head, pose.disc(_SCREWS[screw], _SCREW_RADIUS))
    return picture


def _screw(pose: _Pose, centre: tuple[float, float], slot: float) -> Picture:
    """The colours of a screw's head, to be laid over the disc it covers."""
    x, y = pose.across - centre[0], pose.down - centre[1]
    in_slot = np.clip(2.5 - np.abs(np.sin(slot) * x - np.cos(slot) * y), 0, 1)
    head = 0.46 + 0.008 * (x + y) - 0.12 * (np.hypot(x, y) > _SCREW_RADIUS - 2.5)
    return (head * (1 - in_slot) + 0.14 * in_slot)[..., None] * np.array((1.02, 0.97, 0.82))


def _defect(
    category: str, defect: str, pose: _Pose, generator: Generator
) -> tuple[np.ndarray, Coverage, float]:
    """What is laid over the product, where (0 to 1 for each pixel), and how opaque."""
    if defect == "missing":
        lost = int(generator.integers(len(_SCREWS)))
        rest = tuple(index for index in range(len(_SCREWS)) if index != lost)
        return _plate(pose, rest), pose.disc(_SCREWS[lost], _SCREW_RADIUS), 1.0
    if defect == "added":
        across = float(generator.choice((-1, 1)) * generator.uniform(44, 62))
        centre = (across, float(generator.uniform(-30, 30)))
        return _screw(pose, centre, generator.uniform(0, np.pi)), pose.disc(centre, _SCREW_RADIUS), 1.0
    if defect == "foreign":
        return _surface(_FOREIGN[category], generator), _blob(generator, 14.0, 26.0), 1.0
    if defect == "hole":
        return np.array((0.07, 0.06, 0.06)), _blob(generator, 8.0, 18.0), 0.95
    if defect == "stain":
        return np.array((0.34, 0.22, 0.10)), _blob(generator, 12.0, 26.0), float(generator.uniform(0.45, 0.7))
    tone = generator.choice((0.05, 0.95))
    return np.full(3, tone), _scratch(generator), float(generator.uniform(0.6, 0.9))


def _blob(generator: Generator, smallest: float, largest: float) -> Coverage:
    """A closed curve around a random centre whose radius varies with the angle; radii in pixels."""
    row, column = generator.uniform(SIDE * 0.28, SIDE * 0.72, size=2)
    angle = np.arctan2(_ROWS - row, _COLUMNS - column)
    radius = np.full((SIDE, SIDE), generator.uniform(smallest, largest))
    for wave in (2, 3, 5):
        height = generator.uniform(0, 0.4 / wave)
        radius *= 1 + height * np.cos(wave * angle + generator.uniform(0, 2 * np.pi))
    return np.clip(radius - np.hypot(_ROWS - row, _COLUMNS - column) + 0.5, 0, 1)


def _scratch(generator: Generator) -> Coverage:
    """A thin bent line: a quadratic Bezier curve 40 to 110 pixels long and 3 to 5 wide."""
    from scipy import ndimage

    start = generator.uniform(SIDE * 0.3, SIDE * 0.7, size=2)
    angle, length = generator.uniform(0, 2 * np.pi), generator.uniform(40, 110)
    end = start + length * np.array((np.sin(angle), np.cos(angle)))
    bend = (start + end) / 2 + generator.uniform(-0.25, 0.25, size=2) * length
    t = np.linspace(0, 1, 400)[:, None]
    points = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    rows, columns = np.rint(points).astype(int).clip(0, SIDE - 1).T
    off_line = np.ones((SIDE, SIDE), dtype=bool)
    off_line[rows, columns] = False
    return np.clip(generator.uniform(1.2, 2.2) - ndimage.distance_transform_edt(off_line) + 0.5, 0, 1)


def _photograph(picture: Picture, generator: Generator) -> UInt8[np.ndarray, "256 256 3"]:
    """Random brightness, a slope of the light across the image, and sensor noise."""
    slope_down, slope_across = generator.uniform(-0.06, 0.06, size=2)
    light = (
        generator.uniform(0.90, 1.10)
        + slope_down * (_ROWS / SIDE - 0.5)
        + slope_across * (_COLUMNS / SIDE - 0.5)
    )
    noisy = picture * light[..., None] + generator.normal(0, 0.015, size=picture.shape)
    return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)


def _over(picture: Picture, layer: np.ndarray, coverage: Coverage) -> Picture:
    return picture + coverage[..., None] * (layer - picture)
