"""Every number of every recipe and of all settings has a range, and is refused where it can mean nothing."""

import math
import types
from dataclasses import fields, replace
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
from msgspec import Meta

import inctrl.recipes
import inctrl.settings
import realnet.cli
import realnet.diffusion.recipes
import realnet.diffusion.settings
import realnet.recipes
import recontrast.recipes
import resad.recipes
import resad.settings
import uniad.recipes
from adcommon.errors import BadValue
from adcommon.training.settings import Settings

RECIPES = [
    recontrast.recipes.QUICKSTART,
    uniad.recipes.QUICKSTART,
    realnet.recipes.QUICKSTART,
    inctrl.recipes.QUICKSTART,
    resad.recipes.QUICKSTART,
    realnet.diffusion.recipes.DIFFUSION_RECIPES["tiny"],
    realnet.diffusion.recipes.CLASSIFIER_RECIPES["tiny"],
    realnet.diffusion.recipes.SAMPLE_RECIPES["tiny"],
    Settings(),
    inctrl.settings.TrainSettings(),
    inctrl.settings.TestSettings(),
    resad.settings.TrainSettings(),
    realnet.cli.TrainSettings(),
    realnet.diffusion.settings.TrainSettings(),
    realnet.diffusion.settings.SampleSettings(),
]
NUMBERS = [
    (given, name, hint)
    for given in RECIPES
    for name, hint in get_type_hints(type(given), include_extras=True).items()
    if name in {entry.name for entry in fields(given)}
]


def _without_range(hint: Any, ranged: bool = False) -> bool:
    """True if a type has a number in it that may be anything."""
    if get_origin(hint) is Annotated:
        kind, *notes = get_args(hint)
        return _without_range(kind, ranged or any(isinstance(note, Meta) for note in notes))
    if get_origin(hint) in (tuple, Union, types.UnionType):
        return any(_without_range(part, ranged) for part in get_args(hint))
    return hint in (int, float) and not ranged


@pytest.mark.parametrize(
    ("given", "name", "hint"),
    NUMBERS,
    ids=[f"{type(given).__qualname__}.{name}" for given, name, _ in NUMBERS],
)
def test_every_number_has_a_range(given: Any, name: str, hint: Any) -> None:
    assert not _without_range(hint)


@pytest.mark.parametrize(
    "given", RECIPES, ids=lambda given: f"{type(given).__module__}.{type(given).__name__}"
)
def test_what_is_no_number_or_far_out_is_refused_by_name(given: Any) -> None:
    for entry in fields(given):
        value = getattr(given, entry.name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        wrong = [-1, 2**40] if isinstance(value, int) else [math.nan, math.inf, -math.inf, -1.0, 1e30]
        for number in wrong:
            with pytest.raises(BadValue, match=entry.name):
                replace(given, **{entry.name: number})
