"""Reference pictures to the last grey level; pictures for people show what they claim."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from adcommon.results.pictures import contour, glow, heat_map, jet, overlay, panel, png, reference_overlay

INDICES = np.arange(256, dtype=np.uint8)


@pytest.fixture(scope="module")
def golden(golden_root: Path) -> dict[str, np.ndarray]:
    with np.load(golden_root / "recontrast" / "metrics.npz") as file:
        return dict(file)


def test_jet_is_opencvs_table_as_rgb(golden: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(jet(INDICES), golden["jet_lut_bgr"][:, ::-1])


def test_heat_map_equals_the_reference(golden: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(heat_map(golden["small"]), golden["heatmap_bgr_of_small"][..., ::-1])
    np.testing.assert_array_equal(
        heat_map(golden["minmax_of_small"], 0.0, 1.0), golden["heatmap_bgr_of_small"][..., ::-1]
    )


def test_reference_overlay_equals_the_reference_in_any_channel_order(golden: dict[str, np.ndarray]) -> None:
    image, heat, expected = (golden[name] for name in ("overlay_img", "heatmap_bgr_of_small", "overlay_out"))
    np.testing.assert_array_equal(reference_overlay(image, heat), expected)
    np.testing.assert_array_equal(reference_overlay(image[..., ::-1], heat[..., ::-1]), expected[..., ::-1])


def test_glow_gets_brighter_with_every_step() -> None:
    luminance = glow(INDICES) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > 0).all()


@given(
    arrays(np.float64, (3, 4), elements=st.integers(-1000, 1000).map(float)),
    st.floats(0.1, 100),
    st.floats(-5, 5),
)
def test_heat_map_ignores_scale_and_offset(values: np.ndarray, scale: float, offset: float) -> None:
    one, other = (heat_map(v, colours=grey).astype(int) for v in (values, values * scale + offset))
    assert np.abs(one - other).max() <= 1


def grey(indices: np.ndarray) -> np.ndarray:
    return np.repeat(indices[..., None], 3, axis=-1)


def test_a_common_range_makes_colours_compare() -> None:
    calm, alarming = np.full((2, 2), 0.1), np.full((2, 2), 0.9)
    assert (heat_map(calm) == heat_map(alarming)).all()
    assert (heat_map(calm, 0.0, 1.0, colours=grey) == 25).all()
    assert (heat_map(alarming, 0.0, 1.0, colours=grey) == 229).all()
    assert (heat_map(alarming, 0.0, 0.5, colours=grey) == 255).all()
    assert (heat_map(calm, 0.5, 1.0, colours=grey) == 0).all()


def test_overlay_is_half_image_half_heat() -> None:
    image, heat = np.full((2, 2, 3), 100, np.uint8), np.full((2, 2, 3), 200, np.uint8)
    assert (overlay(image, heat) == 150).all()


def test_a_black_picture_stays_black() -> None:
    black = np.zeros((2, 2, 3), np.uint8)
    assert (reference_overlay(black, black) == 0).all()


@pytest.mark.parametrize(("side", "width"), [(64, 1), (512, 2)])
def test_a_contour_is_the_masks_inner_border(side: int, width: int) -> None:
    mask = np.zeros((side, side), dtype=bool)
    mask[10:30, 20:50] = True
    drawn = contour(np.zeros((side, side, 3), np.uint8), mask)
    expected = mask.copy()
    expected[10 + width : 30 - width, 20 + width : 50 - width] = False
    np.testing.assert_array_equal(drawn[..., 1] == 255, expected)
    assert (drawn[..., [0, 2]] == 0).all()


def test_a_panel_shows_image_truth_map_and_overlay_side_by_side() -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (100, 120, 3), dtype=np.uint8)
    mask = np.zeros((100, 120), dtype=bool)
    mask[40:60, 40:60] = True
    anomaly_map = generator.random((100, 120))
    with_truth = panel(image, mask, anomaly_map, score=0.5, threshold=0.25)
    without = panel(image, None, anomaly_map)
    top = with_truth.shape[0] - 100
    np.testing.assert_array_equal(with_truth[top:, :120], image)
    step = (with_truth.shape[1] - 120) // 3
    np.testing.assert_array_equal(with_truth[top:, step : step + 120, 0] == 255, mask)
    heat = heat_map(anomaly_map, colours=glow)
    np.testing.assert_array_equal(with_truth[top:, 2 * step : 2 * step + 120], heat)
    np.testing.assert_array_equal(without[top:, step : step + 120], heat)
    assert without.shape[1] == with_truth.shape[1] - step
    assert (with_truth[:top, :step] < 128).any(), "the title is drawn"


def test_a_panels_title_is_never_cut_however_small_the_picture() -> None:
    image, anomaly_map = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8))
    short, long = (panel(image, None, anomaly_map, score=score) for score in (1.0, 1.234e-5))
    assert long.shape[1] > short.shape[1]


def test_png_is_lossless() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(png(pixels))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
