import numpy as np

from realnet.synthesis.blend import WINDOW, blend, visible

GENERATOR = np.random.default_rng(0)
IMAGES, SOURCES = GENERATOR.integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)
MASKS = GENERATOR.random((3, 16, 16)) < 0.3
OPACITY = np.array([0.3, 1.0, 0.0])


def test_blending_is_the_equation_truncated_to_whole_levels() -> None:
    mask, beta = MASKS[..., None].astype(float), OPACITY[:, None, None, None]
    expected = (1 - mask) * IMAGES + (1 - beta) * mask * IMAGES + beta * mask * SOURCES
    assert np.array_equal(blend(IMAGES, SOURCES, MASKS, OPACITY), expected.astype(np.uint8))


def test_opacity_goes_from_the_image_to_the_source_and_inputs_stay_as_they_are() -> None:
    before = IMAGES.copy()
    blended = blend(IMAGES, SOURCES, MASKS, OPACITY)
    assert np.array_equal(blended[1][MASKS[1]], SOURCES[1][MASKS[1]])
    assert np.array_equal(blended[2], IMAGES[2])
    assert np.array_equal(blended[~MASKS], IMAGES[~MASKS])
    assert np.array_equal(IMAGES, before)


def test_an_empty_mask_changes_nothing() -> None:
    nothing = np.zeros_like(MASKS)
    assert np.array_equal(blend(IMAGES, SOURCES, nothing, OPACITY), IMAGES)


def test_a_change_is_seen_where_the_window_around_a_pixel_differs_enough() -> None:
    changed = IMAGES.astype(int)
    changed[1, 6, 6] += np.where(changed[1, 6, 6] < 128, 100, -100)
    least = 0.99 * 100 / WINDOW**2
    found = visible(IMAGES, changed.astype(np.uint8), least)
    half = WINDOW // 2
    expected = np.zeros_like(found)
    expected[1, 6 - half : 7 + half, 6 - half : 7 + half] = True
    assert np.array_equal(found[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2])
    assert not visible(IMAGES, IMAGES, 1e-3).any()
    assert visible(IMAGES, 255 - IMAGES, 20.0).mean() > 0.9
