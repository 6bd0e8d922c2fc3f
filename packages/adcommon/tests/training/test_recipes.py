from dataclasses import dataclass, replace

import pytest

from adcommon.errors import BadValue
from adcommon.io.files import plain
from adcommon.training.recipes import flags_of, from_json, refuse_below


@dataclass(frozen=True, kw_only=True)
class Recipe:
    steps: int = 3
    scales: tuple[int, ...] = (1, 2)


def test_a_recipe_survives_json() -> None:
    assert from_json(Recipe, plain(Recipe(scales=(4,)))) == Recipe(scales=(4,))


def test_the_field_that_is_too_small_is_named() -> None:
    refuse_below(Recipe(), 1, ["steps"])
    with pytest.raises(BadValue, match="steps is 0; expected at least 1"):
        refuse_below(replace(Recipe(), steps=0), 1, ["steps"])


def test_flags_are_found_in_any_spelling() -> None:
    assert flags_of(["mvtec", "--data_root=x", "--seed", "1"]) == {"--data-root", "--seed"}
