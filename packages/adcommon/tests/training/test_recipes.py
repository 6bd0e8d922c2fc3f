import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from adcommon.errors import BadValue
from adcommon.io.files import plain
from adcommon.training.recipes import from_json, recipe_for, refuse_below


@dataclass(frozen=True)
class Recipe:
    name: str = "a"
    folder: Path = Path("here")
    lists: Path | None = None
    sizes: tuple[int, ...] = (1, 2)
    steps: int | None = None


@pytest.mark.parametrize("recipe", [Recipe(), Recipe("b", Path("x"), Path("y"), (), 3)])
def test_a_recipe_survives_its_models_config(recipe: Recipe) -> None:
    assert from_json(Recipe, json.loads(json.dumps(plain(recipe)))) == recipe


def test_a_field_below_its_limit_is_named_and_one_without_value_is_not() -> None:
    refuse_below(Recipe(), 1, ("steps",))
    with pytest.raises(BadValue, match="steps is 0; expected at least 1"):
        refuse_below(Recipe(steps=0), 1, ("steps",))


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        (["--dataset", "btad"], "btad"),
        (["--category", "screw"], "mvtec"),
        (["--meta_train", "list.json"], "own"),
        (["--data", "images"], "mvtec"),
        (["--dataset"], "own"),
    ],
)
def test_a_command_line_starts_from_the_papers_recipe_or_that_for_own_data(words, recipe) -> None:
    assert recipe_for(words, ["mvtec", "btad"], own=("--meta-train",)) == recipe
