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


def test_what_would_spoil_distances_or_does_nothing_is_refused() -> None:
    assert {recipe.precision for recipe in RECIPES.values()} == {"fp32", "auto"}
    with pytest.raises(BadValue, match="--precision bf16: distances of this method"):
        replace(Base(), precision="bf16")
    with pytest.raises(BadValue, match="--compile has no effect here"):
        replace(Base(), compile=True)
