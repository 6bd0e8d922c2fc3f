from dataclasses import dataclass
from pathlib import Path

import pytest

from adcommon.errors import WrongCheckpoint
from adcommon.io.files import plain
from adcommon.io.schema import check_fields
from adcommon.training.recipes import flags_of, from_json
from adcommon.types.values import Positive


@dataclass(frozen=True, kw_only=True)
class Recipe:
    steps: Positive = 3
    scales: tuple[int, ...] = (1, 2)
    lists: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


def test_a_recipe_survives_json() -> None:
    recipe = Recipe(scales=(4,), lists=(Path("a"),))
    assert from_json(Recipe, plain(recipe)) == recipe


def test_a_field_that_held_one_number_takes_it_still() -> None:
    assert from_json(Recipe, {"scales": 4}) == Recipe(scales=(4,))


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", None, [3]])
def test_a_field_that_cannot_be_is_named(value: object) -> None:
    with pytest.raises(WrongCheckpoint, match=r"recipe\.steps is .*; expected a whole number from 1"):
        from_json(Recipe, {"steps": value})


def test_flags_are_found_in_any_spelling() -> None:
    assert flags_of(["mvtec", "--data_root=x", "--seed", "1"]) == {"--data-root", "--seed"}
