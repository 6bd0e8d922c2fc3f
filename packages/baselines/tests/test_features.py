from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from adcommon.errors import BadValue
from adcommon.models.backbones import FeaturePyramid
from baselines.features import PatchFeatures, grid_of, make_preprocess, make_pyramid
from baselines.recipe import Base


@pytest.fixture(scope="module")
def pyramid() -> FeaturePyramid:
    return FeaturePyramid("resnet18", "random", strides=(4, 8))


def test_coarse_cells_are_repeated_on_the_fine_grid(pyramid, images) -> None:
    fine, coarse = pyramid(images)
    together = PatchFeatures(pyramid, upsampling="nearest")(images)
    assert torch.equal(together[:, :64], fine)
    assert torch.equal(together[:, 64:], coarse.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_only_the_kept_channels_stay_in_their_order(pyramid, images) -> None:
    kept = [0, 5, 63, 64, 191]
    every, some = (PatchFeatures(pyramid, upsampling="nearest", kept=chosen) for chosen in (None, kept))
    assert (every.channels, some.channels) == (192, 5)
    assert torch.equal(some(images), every(images)[:, kept])


def test_a_map_of_which_nothing_is_kept_does_no_harm(pyramid, images) -> None:
    assert PatchFeatures(pyramid, upsampling="bilinear", kept=[2, 3])(images).shape == (6, 2, 16, 16)


def test_a_neighbourhood_is_the_mean_of_its_square(pyramid, images) -> None:
    fine = pyramid(images)[0].numpy()
    got = PatchFeatures(pyramid, upsampling="bilinear", neighbourhood=3)(images)[:, :64]
    wanted = np.stack([[uniform_filter(channel, 3, mode="constant") for channel in image] for image in fine])
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("kept", [[], [1, 0], [3, 3], [-1], [192]])
def test_channels_that_are_not_there_are_refused(pyramid, kept) -> None:
    with pytest.raises(BadValue, match="rising numbers of 0 to 191"):
        PatchFeatures(pyramid, upsampling="nearest", kept=kept)


def test_an_even_neighbourhood_is_refused(pyramid) -> None:
    with pytest.raises(BadValue, match="odd"):
        PatchFeatures(pyramid, upsampling="nearest", neighbourhood=2)


def test_a_recipe_names_its_network_and_its_images() -> None:
    recipe = replace(Base(), backbone="resnet18", strides=(8, 16), crop_size=64)
    pyramid = make_pyramid(recipe, "random")
    assert (pyramid.strides, grid_of(pyramid, recipe.size)) == ((8, 16), 8)
    assert make_preprocess(recipe).size == 64


def test_a_transformer_gives_its_tokens() -> None:
    recipe = replace(Base(), backbone="vit_tiny_patch16_224", layers=(1, 2), image_size=64, crop_size=None)
    pyramid = make_pyramid(recipe, "random")
    maps = PatchFeatures(pyramid, upsampling="bilinear")(torch.zeros(1, 3, 64, 64))
    assert maps.shape == (1, 384, 4, 4)
    assert grid_of(pyramid, 64) == 4
