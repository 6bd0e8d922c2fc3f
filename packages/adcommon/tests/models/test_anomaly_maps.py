from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from adcommon.data.preprocess import Preprocess
from adcommon.models.anomaly_maps import (
    cosine_distance,
    gaussian_blur,
    kernel_blur,
    max_score,
    mean_score,
    pooled_max_score,
    std_score,
    top_fraction_score,
    upsample,
)
from adcommon.types.records import Record


def test_maps_and_scores_equal_the_golden_values(golden_root: Path, tmp_path: Path) -> None:
    golden = dict(np.load(golden_root / "metrics" / "postprocess.npz"))
    golden.pop("description")
    maps, low = torch.from_numpy(golden.pop("maps")), torch.from_numpy(golden.pop("low_res"))
    size = maps.shape[1]
    got = {
        "gaussian_sigma4": gaussian_blur(maps, 4.0),
        "gaussian_kernel5_sigma4_zero_pad": kernel_blur(maps),
        "image_max": max_score(maps),
        "image_mean": mean_score(maps),
        "image_std": std_score(maps),
        "image_avgpool16_max": pooled_max_score(maps),
        "image_top1percent_mean": top_fraction_score(maps, 0.01),
        "upsample_align_corners_true": upsample(low, size, align_corners=True),
        "upsample_align_corners_false": upsample(low, (size, size), align_corners=False),
    }
    for name, value in got.items():
        np.testing.assert_allclose(value, golden.pop(name), rtol=0, atol=1e-6, err_msg=name)

    mask = tmp_path / "mask.png"
    Image.fromarray(255 * (golden.pop("mask") > 0).astype(np.uint8)).save(mask)
    for name, preprocess in {
        "mask_resize32_nearest": Preprocess(image_size=32),
        "mask_resize32_bilinear_any": Preprocess(image_size=32, mask_rule="any"),
        "mask_resize32_short_side_crop_nearest": Preprocess(image_size=32, fit="short_side"),
    }.items():
        np.testing.assert_array_equal(
            preprocess.mask(Record(mask, "part", 1, mask=mask)), golden.pop(name) > 0, err_msg=name
        )
    assert not golden


@given(
    st.integers(1, 20),
    st.integers(1, 40),
    st.sampled_from([0.5, 1.0, 2.3, 4.0]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_gaussian_blur_equals_scipy_also_on_maps_smaller_than_the_kernel(
    height: int, width: int, sigma: float, dtype: torch.dtype
) -> None:
    maps = torch.rand(2, height, width, dtype=dtype, generator=torch.Generator().manual_seed(height * width))
    expected = np.stack([ndimage.gaussian_filter(image_map, sigma) for image_map in maps.numpy()])
    blurred = gaussian_blur(maps, sigma)
    assert blurred.dtype == dtype
    np.testing.assert_allclose(blurred, expected, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-13)


def test_gaussian_blur_keeps_its_precision_under_autocast() -> None:
    maps = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gaussian_blur(maps, 4.0), gaussian_blur(maps, 4.0).float())
    np.testing.assert_allclose(
        gaussian_blur(maps, 4.0)[0], ndimage.gaussian_filter(maps[0].numpy(), 4), atol=1e-6
    )


def test_kernel_blur_darkens_the_border_and_keeps_the_inside() -> None:
    blurred = kernel_blur(torch.ones(1, 9, 9))[0]
    assert blurred[4, 4] == pytest.approx(1)
    assert blurred[0, 0] < blurred[0, 4] < 0.7


def test_kernel_blur_equals_a_convolution_with_the_written_kernel() -> None:
    offsets = np.arange(-2, 3)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 32)
    image_map = np.random.default_rng(0).normal(size=(12, 15))
    expected = ndimage.convolve(image_map, kernel / kernel.sum(), mode="constant")
    np.testing.assert_allclose(kernel_blur(torch.from_numpy(image_map[None]))[0], expected, atol=1e-14)


def test_top_fraction_is_floored_and_at_least_one_pixel() -> None:
    maps = torch.arange(150.0).reshape(1, 10, 15)
    assert top_fraction_score(maps, 0.019) == 148.5  # int(2.85) = 2 pixels
    assert top_fraction_score(maps, 0.001) == 149
    assert top_fraction_score(maps, 1.0) == maps.mean()


def test_std_is_the_population_one_and_pooling_ignores_single_pixels() -> None:
    maps = torch.zeros(2, 20, 20)
    maps[0, 3, 3] = 1
    maps[1, 2:18, 4:20] = 0.5
    np.testing.assert_allclose(std_score(maps), maps.numpy().std(axis=(1, 2)), atol=1e-7)
    assert pooled_max_score(maps).tolist() == [1 / 256, 0.5]
    assert max_score(maps).tolist() == [1, 0.5]


def test_a_window_has_a_height_and_a_width() -> None:
    maps = torch.zeros(1, 20, 20)
    maps[0, 3:5, 2:10] = 1
    assert pooled_max_score(maps, [2, 8]).tolist() == [1]
    assert pooled_max_score(maps, [8, 2]).tolist() == [0.25]


def test_identical_features_give_a_zero_map_and_opposite_ones_two() -> None:
    features = torch.randn(1, 7, 3, 4, generator=torch.Generator().manual_seed(0))
    assert cosine_distance(features, 3 * features).abs().max() < 1e-6
    assert torch.allclose(cosine_distance(features, -features), torch.full((1, 3, 4), 2.0))


def test_scores_do_not_depend_on_the_batch() -> None:
    maps = torch.randn(3, 17, 20, generator=torch.Generator().manual_seed(0))
    for function in (
        max_score,
        mean_score,
        std_score,
        pooled_max_score,
        lambda m: gaussian_blur(m, 2.0),
        kernel_blur,
    ):
        together = function(maps)
        for number in range(3):
            assert torch.equal(function(maps[number : number + 1])[0], together[number])
