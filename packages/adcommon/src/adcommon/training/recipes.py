"""What every recipe does with its values: a recipe is a frozen dataclass, and each paper's is its own."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from adcommon.errors import BadValue

R = TypeVar("R")


def refuse_below(recipe: object, least: float, names: Sequence[str]) -> None:
    """Refuse a recipe with a field below `least`.

    Raises:
        BadValue: names the field.
    """
    for name in names:
        if getattr(recipe, name) < least:
            raise BadValue(f"{name} is {getattr(recipe, name)}; expected at least {least:g}")


def from_json(cls: type[R], values: Mapping[str, Any]) -> R:
    """The recipe in a model's config, where tuples have become lists."""
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def flags_of(words: Sequence[str]) -> set[str]:
    """The flags on a command line, in the spelling with hyphens."""
    return {word.replace("_", "-").partition("=")[0] for word in words if word.startswith("--")}
