import numpy as np
import pytest

from realnet.synthesis.brightness import BRIGHTNESS, add_to_hue_and_saturation

PIXELS = np.array(
    [[[200, 40, 90], [10, 220, 60], [128, 128, 128], [0, 0, 0], [255, 255, 255], [30, 60, 240]]],
    dtype=np.uint8,
)

# OpenCV 4.11: to the space, brightness times 0.9 plus 20, and back, all in 8 bits.
OPENCV = {
    "YCrCb": [[212, 51, 101], [16, 226, 65], [135, 135, 135], [20, 20, 20], [250, 250, 250], [43, 74, 253]],
    "HSV": [[200, 40, 88], [10, 218, 59], [135, 135, 135], [20, 20, 20], [250, 250, 250], [30, 57, 236]],
    "HLS": [[213, 43, 94], [11, 237, 64], [135, 135, 135], [20, 20, 20], [250, 250, 250], [43, 70, 241]],
    "Lab": [[212, 51, 98], [15, 221, 61], [134, 134, 134], [23, 23, 23], [249, 249, 249], [55, 70, 252]],
    "Luv": [[209, 53, 98], [2, 220, 60], [132, 134, 134], [21, 24, 24], [248, 250, 250], [49, 75, 243]],
    "YUV": [[211, 52, 101], [16, 226, 66], [135, 135, 135], [20, 20, 20], [250, 250, 250], [43, 74, 254]],
}
# Hue minus 25 of 180 steps, saturation plus 40.
OPENCV_HUE = [[174, 9, 200], [132, 220, 0], [128, 108, 125], [0, 0, 0], [255, 215, 248], [0, 232, 240]]
ROUNDING = 8
"""Levels by which OpenCV's rounding of the other two channels, which is not imitated, moves a colour."""


@pytest.mark.parametrize("space", OPENCV)
def test_changed_brightness_is_that_of_opencv_but_for_the_rounding_of_the_other_channels(space) -> None:
    got = BRIGHTNESS[space](PIXELS, lambda brightness: brightness * np.float32(0.9) + 20)
    assert abs(got.astype(int) - OPENCV[space]).max() <= ROUNDING


def test_changed_hue_and_saturation_are_those_of_opencv_but_for_rounding() -> None:
    got = add_to_hue_and_saturation(PIXELS, -25, 40)
    assert abs(got.astype(int) - OPENCV_HUE).max() <= ROUNDING


@pytest.mark.parametrize("space", BRIGHTNESS)
def test_brightness_that_stays_leaves_the_picture_within_two_levels(space) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    difference = abs(BRIGHTNESS[space](image, lambda brightness: brightness).astype(int) - image)
    assert difference.mean() < 0.6
    assert np.percentile(difference, 99) <= 2


@pytest.mark.parametrize("space", BRIGHTNESS)
def test_more_brightness_is_brighter_and_none_is_black(space) -> None:
    change = BRIGHTNESS[space]
    colours = PIXELS[:, [0, 1, 2, 5]]
    brighter = change(colours, lambda brightness: brightness + 30).sum(axis=-1, dtype=int)
    darker = change(colours, lambda brightness: brightness - 30).sum(axis=-1, dtype=int)
    assert (brighter > darker).all()
    grey = PIXELS[:, [2, 3, 4]]
    assert change(grey, lambda brightness: brightness * 0 - 5).max() <= 1
    assert change(grey, lambda brightness: brightness * 0 + 300).min() >= 254


def test_a_whole_turn_of_the_hue_changes_nothing_and_half_of_one_swaps_opposites() -> None:
    pure = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)
    assert np.array_equal(add_to_hue_and_saturation(pure, 180, 0), pure)
    assert np.array_equal(add_to_hue_and_saturation(pure, 90, 0), 255 - pure)
    assert np.array_equal(add_to_hue_and_saturation(pure, 60, 0), np.roll(pure, 1, axis=-1))


def test_no_saturation_is_grey_of_the_largest_channel() -> None:
    got = add_to_hue_and_saturation(PIXELS, 20, -255)
    assert np.array_equal(got, np.repeat(PIXELS.max(axis=-1, keepdims=True), 3, axis=-1))
