import numpy as np

from realnet.synthesis.blend import blend

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
