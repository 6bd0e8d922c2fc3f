import pytest

from adcommon.training.recipes import flags_of, recipe_for


def test_flags_are_found_in_any_spelling() -> None:
    assert flags_of(["mvtec", "--data_root=x", "--seed", "1"]) == {"--data-root", "--seed"}


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        ([], "mvtec"),
        (["--dataset", "visa"], "visa"),
        (["--dataset=elpv"], "own"),
        (["--data", "x"], "own"),
        (["--meta_train", "x"], "own"),
        (["--seed", "1"], "mvtec"),
    ],
)
def test_a_command_line_says_whose_defaults_hold(words: list[str], recipe: str) -> None:
    assert recipe_for(words, ["mvtec", "visa"], own=("--data", "--meta-train")) == recipe
