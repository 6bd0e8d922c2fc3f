import logging
from pathlib import Path

import pytest

from adcommon.errors import BadValue
from adcommon.training.recipes import flags_of, in_authors_form, recipe_for, refuse_two_datasets, say_unused


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
        (["--dataset", "visa", "--data", "x"], "own"),
    ],
)
def test_a_command_line_says_whose_defaults_hold(words: list[str], recipe: str) -> None:
    assert recipe_for(words, ["mvtec", "visa"], own=("--data", "--meta-train")) == recipe


def test_own_images_and_a_dataset_of_the_catalogue_do_not_go_together() -> None:
    with pytest.raises(BadValue, match="--dataset visa and --data photos were both given"):
        refuse_two_datasets("visa", Path("photos"))
    for named, data in (("visa", None), ("folder", Path("photos")), (None, Path("photos"))):
        refuse_two_datasets(named, data)
    refuse_two_datasets("elpv", Path("photos"), usual="elpv")  # a recipe's own, which nobody named


@pytest.mark.parametrize("fault", [KeyError("net"), TypeError("int"), AttributeError("get"), ValueError("x")])
def test_a_file_in_another_form_is_named(fault: Exception) -> None:
    @in_authors_form
    def read(path: Path) -> None:
        raise fault

    with pytest.raises(BadValue, match=rf"theirs\.yaml is not in the form .*{type(fault).__name__}"):
        read(Path("theirs.yaml"))


def test_keys_without_effect_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    say_unused(Path("theirs.yaml"), {})
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        say_unused(Path("theirs.yaml"), {"port": "torchrun chooses it", "root": "use --out"})
    assert "port (torchrun chooses it); root (use --out)" in caplog.text
