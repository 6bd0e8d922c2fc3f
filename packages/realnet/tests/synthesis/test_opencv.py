import numpy as np
import pytest
from PIL import Image

from realnet.synthesis.opencv import grey, otsu_threshold, resize, triangle_threshold

IMAGE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)

# Red channel of OpenCV 4.11's resize of that image, by (height, width).
RESIZED = {
    (3, 4): [[110, 35, 189, 161], [73, 127, 83, 117], [150, 131, 201, 101]],
    (4, 9): [
        [91, 159, 114, 55, 195, 220, 143, 119, 205],
        [62, 55, 55, 65, 85, 80, 109, 144, 166],
        [140, 160, 116, 81, 196, 135, 118, 102, 70],
        [91, 170, 190, 159, 135, 207, 156, 105, 117],
    ],
    (9, 8): [
        [95, 194, 78, 127, 229, 192, 94, 205],
        [84, 141, 59, 99, 176, 159, 108, 206],
        [65, 53, 28, 51, 86, 104, 132, 208],
        [62, 57, 63, 80, 85, 96, 139, 158],
        [64, 84, 115, 128, 105, 100, 143, 95],
        [132, 156, 90, 131, 156, 116, 113, 73],
        [174, 210, 83, 136, 193, 136, 90, 63],
        [113, 193, 153, 145, 180, 174, 99, 102],
        [77, 183, 195, 150, 172, 196, 105, 126],
    ],
}


@pytest.mark.parametrize("size", RESIZED)
def test_resizing_gives_the_grey_levels_of_opencv(size) -> None:
    assert resize(IMAGE, size)[..., 0].tolist() == RESIZED[size]


def test_half_the_size_is_the_mean_of_four_as_in_opencv() -> None:
    generator = np.random.default_rng(0)
    generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = generator.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    assert resize(image, (2, 3))[..., 1].tolist() == [[100, 130, 69], [54, 103, 33]]


def test_the_same_size_is_a_copy() -> None:
    copied = resize(IMAGE, (5, 7))
    assert np.array_equal(copied, IMAGE)
    assert not np.shares_memory(copied, IMAGE)


def test_resizing_is_near_bilinear_interpolation_of_floats() -> None:
    smooth = np.asarray(Image.fromarray(IMAGE).resize((40, 30), Image.Resampling.BICUBIC))
    enlarged = np.asarray(Image.fromarray(smooth).resize((90, 70), Image.Resampling.BILINEAR))
    assert abs(resize(smooth, (70, 90)).astype(int) - enlarged).max() <= 1


def test_grey_differs_from_pillows_in_places_but_by_one_level_at_most() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    difference = abs(grey(image).astype(int) - np.asarray(Image.fromarray(image).convert("L")))
    assert difference.max() == 1
    assert grey(np.full((1, 1, 3), 200, dtype=np.uint8)).tolist() == [[200]]


def two_hills(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    dark = generator.normal(60 + 10 * seed, 12, 300)
    bright = generator.normal(200 - 8 * seed, 15, 100 * (seed + 1))
    return np.concatenate([dark, bright]).clip(0, 255).astype(np.uint8)[None]


DEGENERATE = [[0] * 4, [255] * 4, [7] * 4, [0, 0, 255, 255], [10, 10, 200], [3, 100, 100, 100, 250]]


@pytest.mark.parametrize(
    ("threshold", "hills", "degenerate"),
    [
        (otsu_threshold, [96, 107, 114, 130, 134, 136], [0, 0, 0, 0, 10, 100]),
        (triangle_threshold, [83, 87, 165, 119, 129, 156], [1, 254, 6, 2, 12, 102]),
    ],
)
def test_thresholds_are_those_of_opencv(threshold, hills, degenerate) -> None:
    assert [threshold(two_hills(seed)) for seed in range(6)] == hills
    assert [threshold(np.array([values], dtype=np.uint8)) for values in DEGENERATE] == degenerate
