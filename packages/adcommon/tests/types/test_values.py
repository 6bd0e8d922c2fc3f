"""A flag with a number takes what its type says, and nothing else; the error names the flag as typed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from cyclopts import App, Parameter
from cyclopts.config import Yaml
from hypothesis import given
from hypothesis import strategies as st

from adcommon.errors import BadValue, UserError
from adcommon.io.schema import check_fields
from adcommon.types.values import Finite, NotNegative, Positive, Seed, Share, Window, both_sides


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Flags:
    seed: Seed = 0
    rate: NotNegative = 0.1
    limit: Positive | None = None
    shots: Annotated[tuple[Positive, ...], Parameter(consume_multiple=True)] = (1,)
    pair: tuple[Share, Share] = (0, 1)

    def __post_init__(self) -> None:
        check_fields(self)


def parsed(*words: str, config: Path | None = None) -> list[Any]:
    """The values that a command receives."""
    app = App(config=[Yaml(config)] if config else [])
    found: list[Any] = []

    @app.default
    def command(*, batch: Positive = 1, level: Finite = 0.0, flags: Flags = Flags()) -> None:
        found.extend([batch, level, flags])

    app(words, exit_on_error=False, result_action="return_value")
    return found


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--seed", "-1"], "--seed is -1; expected a whole number from 0"),
        (["--seed", "9" * 40], "--seed is 999"),
        (["--seed=1.5"], "--seed is 1.5; expected a whole number"),
        (["--rate", "nan"], "--rate is nan; expected a finite number from 0"),
        (["--rate", "inf"], "--rate is inf"),
        (["--rate", "many"], "--rate is many"),
        (["--limit", "0"], "--limit is 0"),
        (["--limit", "2.7"], "--limit is 2.7"),
        (["--shots", "2", "0.5"], "--shots is 0.5"),
        (["--pair", "0.5", "2"], "--pair is 2"),
        (["--batch", "0"], "--batch is 0"),
        (["--batch", "1_0.5"], "--batch is 1_0.5"),
        (["--level", "-inf"], "--level is -inf; expected a finite number"),
    ],
)
def test_a_bad_number_is_named_by_its_flag(words: list[str], name: str) -> None:
    with pytest.raises(UserError) as caught:
        parsed(*words)
    assert str(caught.value).startswith(name)


def test_good_numbers_arrive() -> None:
    batch, level, flags = parsed(
        *("--batch", "2", "--level", "-1e3", "--rate", "0", "--shots", "2", "4", "--pair", "0.25", "1")
    )
    assert (batch, level, flags) == (2, -1000.0, Flags(rate=0, shots=(2, 4), pair=(0.25, 1)))


def test_a_file_of_flags_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("seed: 2.5\n")
    with pytest.raises(UserError, match=r"recipe\.yaml: seed is 2\.5; expected a whole number"):
        parsed(config=path)


@given(st.text(alphabet="0123456789-+.einfa_ x", max_size=12))
def test_whatever_is_typed_is_a_number_in_range_or_an_error(word: str) -> None:
    batch, rate, message = 1, 0.0, "--batch is"
    try:
        batch, _, flags = parsed(f"--batch={word}", f"--rate={word}")
        rate = flags.rate
    except UserError as error:
        message = str(error)
    assert message.startswith(("--batch is", "--rate is"))
    assert batch >= 1
    assert 0 <= rate <= 1e9


def test_a_field_given_from_python_is_checked_too() -> None:
    with pytest.raises(BadValue, match="rate is nan"):
        Flags(rate=float("nan"))


@pytest.mark.parametrize(("words", "sides"), [((), (16, 16)), (("8",), (8, 8)), (("8", "12"), (8, 12))])
def test_a_window_has_two_sides(words: tuple[str, ...], sides: tuple[int, int]) -> None:
    app = App()

    @app.default
    def command(*, pool: Window = 16) -> tuple[int, int]:
        return both_sides(pool)

    given = ["--pool", *words] if words else []
    assert app(given, exit_on_error=False, result_action="return_value") == sides


def test_a_window_has_no_more_sides() -> None:
    with pytest.raises(BadValue, match="height and width"):
        both_sides((1, 2, 3))
