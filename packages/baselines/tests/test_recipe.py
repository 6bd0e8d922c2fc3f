from dataclasses import replace

import pytest

from adcommon.errors import BadValue
from baselines.padim.recipes import RECIPES
from baselines.recipe import Base


def test_the_size_is_that_of_the_crop() -> None:
    assert Base().size == 224
    assert replace(Base(), crop_size=None).size == 256


@pytest.mark.parametrize(
    "wrong", [{"crop_size": 100}, {"strides": ()}, {"seed": -1}, {"blur": -1.0}, {"shots": -3}]
)
def test_impossible_values_are_refused(wrong) -> None:
    with pytest.raises(BadValue):
        replace(Base(), **wrong)


def test_a_transformer_may_take_any_size_that_its_patches_divide() -> None:
    assert replace(Base(), layers=(3,), crop_size=None, image_size=70).size == 70


def test_nothing_is_computed_in_less_than_fp32() -> None:
    assert {recipe.precision for recipe in RECIPES.values()} == {"fp32"}
