"""Reference pictures to the last grey level; pictures for people show what they claim."""

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.ndimage import binary_erosion, gaussian_filter

from adcommon.errors import OutputFailed
from adcommon.results.pictures import (
    TRUTH,
    contour,
    glow,
    heat_map,
    jet,
    outline_png,
    overlay,
    png,
    reference_overlay,
    steps,
    write_jpeg,
)

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


def test_glow_goes_straight_from_colour_to_colour() -> None:
    colours = np.asarray(glow(np.arange(256, dtype=np.uint8).reshape(16, 16))).reshape(256, 3)
    assert colours[[0, 255]].tolist() == [[0, 0, 4], [252, 255, 164]]
    assert colours[91].tolist() == [130, 31, 105]  # between the third and the fourth of eight


def test_glow_gets_brighter_with_every_step() -> None:
    luminance = np.asarray(glow(INDICES[None]))[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > 0).all()


@given(
    arrays(np.float64, (3, 4), elements=st.integers(-1000, 1000).map(float)),
    st.floats(0.1, 100),
    st.floats(-5, 5),
)
def test_steps_ignore_scale_and_offset(values: np.ndarray, scale: float, offset: float) -> None:
    one, other = (steps(v).astype(int) for v in (values, values * scale + offset))
    assert np.abs(one - other).max() <= 1


def test_a_common_range_makes_colours_compare() -> None:
    calm, alarming = np.full((2, 2), 0.1), np.full((2, 2), 0.9)
    assert (steps(calm) == steps(alarming)).all()
    assert (steps(calm, 0.0, 1.0) == 25).all()
    assert (steps(alarming, 0.0, 1.0) == 229).all()
    assert (steps(alarming, 0.0, 0.5) == 255).all()
    assert (steps(calm, 0.5, 1.0) == 0).all()


def test_overlay_is_half_image_half_heat() -> None:
    image, heat = Image.new("RGB", (2, 2), (100, 0, 255)), Image.new("RGB", (2, 2), (200, 1, 252))
    assert (np.asarray(overlay(image, heat)) == (150, 0, 253)).all()


def test_a_black_picture_stays_black() -> None:
    black = np.zeros((2, 2, 3), np.uint8)
    assert (reference_overlay(black, black) == 0).all()


@pytest.mark.parametrize(("side", "width"), [(64, 1), (512, 2)])
def test_a_contour_is_the_masks_inner_border(side: int, width: int) -> None:
    mask = np.zeros((side, side), dtype=bool)
    mask[10:30, 20:50] = True
    image = Image.new("RGB", (side, side))
    contour(image, mask)
    drawn = np.asarray(image)
    expected = mask.copy()
    expected[10 + width : 30 - width, 20 + width : 50 - width] = False
    np.testing.assert_array_equal(drawn[..., 1] == 255, expected)
    assert (drawn[..., [0, 2]] == 0).all()


@pytest.mark.parametrize(("shape", "width"), [((40, 60), 1), ((512, 600), 2), ((900, 800), 3)])
def test_a_border_goes_around_every_piece_and_not_along_the_images_edge(
    shape: tuple[int, int], width: int
) -> None:
    values = gaussian_filter(np.random.default_rng(3).random(shape), shape[0] / 20)
    mask = values > np.median(values)
    assert mask[0].any()
    assert mask[:, -1].any()
    window = np.ones((2 * width + 1, 2 * width + 1), dtype=bool)
    expected = mask & ~binary_erosion(mask, window, border_value=1)
    image = Image.new("RGB", shape[::-1])
    contour(image, mask)
    np.testing.assert_array_equal(np.asarray(image).any(axis=2), expected)


def test_an_outline_to_lay_over_is_clear_but_for_the_border() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:30, 20:50] = True
    with Image.open(io.BytesIO(outline_png(mask))) as image:
        layer = np.asarray(image.convert("RGBA"))
    drawn = Image.new("RGB", (60, 40))
    contour(drawn, mask)
    border = np.asarray(drawn).any(axis=2)
    assert (layer[border] == (*TRUTH, 255)).all()
    assert (layer[~border, 3] == 0).all()


def test_png_is_lossless() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(png(pixels))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_a_jpeg_that_the_disk_did_not_take_whole_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Image.new("RGB", (40, 30))
    write_jpeg(tmp_path / "whole.jpg", picture)
    save = Image.Image.save

    def cut_short(image: Image.Image, file: BinaryIO, **options: Any) -> None:
        save(image, whole := io.BytesIO(), **options)
        file.write(whole.getvalue()[:-5])

    monkeypatch.setattr(Image.Image, "save", cut_short)
    with pytest.raises(OutputFailed, match="No space left on device"):
        write_jpeg(tmp_path / "cut.jpg", picture)
    assert [file.name for file in tmp_path.iterdir()] == ["whole.jpg"]
