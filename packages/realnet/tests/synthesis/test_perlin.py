import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcommon.errors import BadValue
from realnet.synthesis import perlin
from realnet.synthesis.perlin import PerlinScales, draw_masks, perlin_masks, perlin_noise, turned, turned_mask


def noise_at(grid: np.ndarray, size: tuple[int, int], row: int, column: int) -> float:
    """The definition, for one pixel."""
    y = row * (grid.shape[0] - 1) / size[0]
    x = column * (grid.shape[1] - 1) / size[1]
    i, j = int(y), int(x)
    u, v = y - i, x - j

    def corner(a: int, b: int) -> float:
        angle = 2 * math.pi * grid[i + a, j + b]
        return math.cos(angle) * (u - a) + math.sin(angle) * (v - b)

    def fade(t: float) -> float:
        return 6 * t**5 - 15 * t**4 + 10 * t**3

    left = corner(0, 0) + fade(u) * (corner(1, 0) - corner(0, 0))
    right = corner(0, 1) + fade(u) * (corner(1, 1) - corner(0, 1))
    return math.sqrt(2) * (left + fade(v) * (right - left))


@settings(max_examples=20)
@given(
    cells=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_noise_of_a_batch_of_grids_is_that_of_the_definition(cells, seed) -> None:
    generator = np.random.default_rng(seed)
    grids = [generator.random((2**a + 1, 2**b + 1)) for a, b in cells]
    size = (8, 16)
    got = perlin_noise(grids, size)
    expected = [
        [[noise_at(grid, size, row, column) for column in range(16)] for row in range(8)] for grid in grids
    ]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


# Values of OpenCV 4.11: warpAffine with getRotationMatrix2D((3, 2.5), -33.3, 1), linear, zeros outside.
OPENCV = """
0.107296379 0.764312055 0.459689452 0.372951279 0.587362001 0.310029023 0.000000000
0.287630571 0.818671644 0.640957427 0.283251341 0.807651339 0.916613618 0.461831312
0.413039990 0.844429851 0.354964331 0.511453234 0.515502297 0.437964891 0.533836214
0.373728701 0.386799296 0.297096403 0.474335803 0.289049742 0.529725607 0.432397657
0.096298587 0.330104652 0.293115806 0.185120526 0.525404104 0.691701803 0.249389775
0.000000000 0.082156303 0.123607352 0.269655805 0.525795467 0.766970311 0.094878014
"""


def test_turning_is_that_of_opencv() -> None:
    generator = np.random.default_rng(0)
    # What was drawn before the noise when OpenCV's values were made.
    generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    generator.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    noise = generator.random((6, 7))
    expected = np.array(OPENCV.split(), dtype=float).reshape(6, 7)
    np.testing.assert_allclose(turned(noise[None], np.array([33.3]))[0], expected, rtol=0, atol=1e-8)


def test_quarter_turns_move_pixels_and_change_none() -> None:
    noise = np.random.default_rng(1).random((3, 8, 8))
    got = turned(noise, np.array([90.0, -90.0, 0.0]))
    expected = [np.rot90(noise[0], -1), np.rot90(noise[1]), noise[2]]
    np.testing.assert_array_equal(got, expected)


@settings(max_examples=30)
@given(
    degrees=st.lists(st.floats(-90, 90), min_size=1, max_size=5),
    threshold=st.floats(0, 0.9),
    seed=st.integers(0, 99),
)
def test_a_mask_is_turned_noise_above_the_threshold(degrees, threshold, seed) -> None:
    noise = np.random.default_rng(seed).uniform(-1, 1, (len(degrees), 12, 20))
    angles = np.array(degrees)
    expected = turned(noise, angles) > threshold
    assert np.array_equal(turned_mask(noise, angles, threshold), expected)


@pytest.mark.parametrize("block", [1, 3 * 16 * 8, 10**6])
def test_masks_are_the_same_however_many_are_made_together(block, monkeypatch) -> None:
    monkeypatch.setattr(perlin, "BLOCK_PIXELS", block)
    generator = np.random.default_rng(0)
    grids = [generator.random((2**a + 1, 2**b + 1)) for a, b in generator.integers(0, 4, (7, 2)).tolist()]
    degrees = generator.uniform(-90, 90, 7)
    expected = [
        turned(perlin_noise([grid], (16, 8)), degrees[index : index + 1])[0] > 0.2
        for index, grid in enumerate(grids)
    ]
    assert np.array_equal(perlin_masks(grids, degrees, (16, 8), 0.2), expected)


def test_masks_depend_on_the_generator_alone_and_cover_a_small_part() -> None:
    masks = draw_masks(np.random.default_rng(3), 64, 64, PerlinScales())
    again = draw_masks(np.random.default_rng(3), 64, 64, PerlinScales())
    assert np.array_equal(masks, again)
    assert 0.01 < masks.mean() < 0.15
    assert len(np.unique(masks.reshape(64, -1), axis=0)) > 50


def test_scales_decide_how_fine_the_shapes_are() -> None:
    def borders(scales: PerlinScales) -> float:
        masks = draw_masks(np.random.default_rng(0), 50, 64, scales)
        return float((masks[:, 1:] != masks[:, :-1]).sum() / masks.sum())

    assert borders(PerlinScales(6, 5)) > 3 * borders(PerlinScales(2, 1))


@pytest.mark.parametrize(("size", "usable"), [(96, 6), (72, 4), (65, 1)])
def test_grids_that_do_not_divide_the_image_are_refused_with_the_largest_usable_scale(size, usable) -> None:
    PerlinScales(usable).check(size)
    with pytest.raises(
        BadValue, match=rf"perlin_scale is 7: .* {size}x{size} .* at most --perlin-scale {usable} at"
    ):
        PerlinScales(7).check(size)


def test_a_smallest_scale_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(BadValue, match="expected 0 <= min_perlin_scale < perlin_scale"):
        PerlinScales(3, 3).check(64)
