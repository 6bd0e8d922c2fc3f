from collections import Counter

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from realnet.synthesis import texture_augment
from realnet.synthesis.texture_augment import (
    APPLIED,
    OPERATIONS,
    augment,
    autocontrast,
    change_brightness,
    equalize,
    gamma_contrast,
    posterize,
    rotate,
    sharpen,
    solarize,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
DARK = (IMAGE // 3 + 20).astype(np.uint8)


class Fixed(np.random.Generator):
    """A generator that draws what it is told, and remembers from which ranges."""

    def __init__(self, *values: object) -> None:
        super().__init__(np.random.PCG64(0))
        self.values, self.ranges = list(values), []

    def _next(self, *given: object) -> object:
        self.ranges.append(given)
        return self.values.pop(0)

    uniform = integers = choice = _next

    def random(self) -> object:
        return self._next()


def test_gamma_is_a_power_of_each_channel_truncated() -> None:
    gammas = np.array([0.5, 1.0, 2.0])
    expected = (255 * (IMAGE / 255) ** gammas).astype(np.uint8)
    assert np.array_equal(gamma_contrast(IMAGE, gammas), expected)


def test_solarize_inverts_from_the_threshold_rounded_down_on() -> None:
    values = np.array([[[99, 100, 101]]], dtype=np.uint8)
    assert solarize(values, 100.9).tolist() == [[[99, 155, 154]]]


def test_posterize_keeps_the_upper_bits() -> None:
    for bits in range(1, 9):
        step = 2 ** (8 - bits)
        assert np.array_equal(posterize(IMAGE, bits), IMAGE // step * step)
    assert len(np.unique(posterize(IMAGE, 1))) == 2


def test_autocontrast_stretches_each_channel_on_its_own() -> None:
    tinted = DARK // np.array([1, 2, 3], dtype=np.uint8)
    got = autocontrast(tinted, 0)
    assert got.min(axis=(0, 1)).tolist() == [0, 0, 0]
    assert got.max(axis=(0, 1)).min() >= 254  # Pillow truncates
    assert (autocontrast(tinted, 20) == 255).mean() > 0.19
    assert (autocontrast(tinted, 20) == 0).mean() > 0.19


def test_equalize_is_pillows_but_for_the_step_it_counts() -> None:
    full = IMAGE.copy()
    full[:2] = 255
    assert np.array_equal(equalize(full), np.asarray(ImageOps.equalize(PillowImage.fromarray(full))))
    # Without a pixel of 255, all pixels count here, but not those of the highest level in Pillow.
    small = np.repeat(np.arange(4, dtype=np.uint8) * 60, 256).reshape(32, 32)
    got = equalize(np.stack([small] * 3, axis=-1))[..., 0]
    step = 1024 // 255
    assert sorted(set(got.ravel().tolist())) == [
        min((step // 2 + below) // step, 255) for below in (0, 256, 512, 768)
    ]
    constant = np.full((8, 8, 3), 7, dtype=np.uint8)
    assert np.array_equal(equalize(constant), constant)


def test_rotation_keeps_the_centre_and_brings_in_black() -> None:
    white = np.full((31, 31, 3), 255, dtype=np.uint8)
    turned = rotate(white, 45.0)
    assert turned[15, 15].tolist() == [255] * 3
    assert turned[0, 0].tolist() == [0] * 3
    assert np.array_equal(rotate(IMAGE, 0.0), IMAGE)


def test_sharpness_goes_from_blurred_to_sharp() -> None:
    spread = [float(sharpen(DARK, factor).std()) for factor in (0.0, 0.5, 1.0, 1.5)]
    assert spread == sorted(spread)
    assert np.array_equal(sharpen(DARK, 1.0), DARK)


def test_brightness_is_multiplied_and_added_to_in_either_order() -> None:
    grey = np.full((1, 1, 3), 100, dtype=np.uint8)
    for add_first, expected in ((False, 140), (True, 144)):
        got = change_brightness(grey, "YCrCb", 1.2, 20.0, add_first=add_first)
        assert got.tolist() == [[[expected] * 3]]


@pytest.mark.parametrize(
    ("operation", "draws", "ranges"),
    [
        (0, [np.ones(3)], [(0.5, 2.0, 3)]),
        (1, ["HSV", 1.0, 0.0, 1], [None, (0.8, 1.2), (-30, 30), (2,)]),
        (2, [1.0], [(0, 2)]),
        (3, [np.array([0, 0])], [(-50, 51, 2)]),
        (4, [0.5], [()]),
        (5, [8], [(1, 9)]),
        (9, [0.0], [(-45, 45)]),
    ],
)
def test_strengths_are_drawn_from_their_ranges_and_the_middle_changes_little(
    operation, draws, ranges
) -> None:
    generator = Fixed(*draws)
    changed = OPERATIONS[operation](IMAGE, generator)
    assert abs(changed.astype(int) - IMAGE).mean() < 1
    for drawn, expected in zip(generator.ranges, ranges, strict=True):
        assert expected is None or drawn == expected


def test_hue_is_drawn_in_255ths_of_opencvs_180_steps_towards_zero(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        texture_augment, "add_to_hue_and_saturation", lambda image, *change: seen.append(change) or image
    )
    OPERATIONS[3](IMAGE, Fixed(np.array([-50, 7])))
    assert seen == [(-35, 7)]


def test_solarize_happens_to_half_of_the_textures() -> None:
    generator = np.random.default_rng(0)
    changed = sum(not np.array_equal(OPERATIONS[4](IMAGE, generator), IMAGE) for _ in range(200))
    assert 70 < changed < 130


def test_three_different_operations_are_applied_each_as_often_as_the_others(monkeypatch) -> None:
    applied: list[int] = []

    def recording(number: int):
        return lambda image, generator: applied.append(number) or image

    monkeypatch.setattr(texture_augment, "OPERATIONS", tuple(map(recording, range(10))))
    generator, orders = np.random.default_rng(0), set()
    for _ in range(300):
        augment(IMAGE, generator)
        assert len(set(applied[-APPLIED:])) == APPLIED == 3
        orders.add(applied[-3] < applied[-2])
    assert orders == {True, False}
    assert min(Counter(applied).values()) > 60


def test_a_generator_in_the_same_state_gives_the_same_texture() -> None:
    first, second = (augment(IMAGE, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, augment(IMAGE, np.random.default_rng(6)))
