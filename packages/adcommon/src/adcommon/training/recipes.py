"""What every recipe does with its values: a recipe is a frozen dataclass, and each paper's is its own."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from adcommon.errors import WrongCheckpoint
from adcommon.io.schema import build

R = TypeVar("R")


def from_json(cls: type[R], values: Mapping[str, Any]) -> R:
    """The recipe in a model's config, where tuples have become lists and paths text.

    Raises:
        WrongCheckpoint: names a field that is unknown, or whose value is of another type or out of range.
    """
    several = {entry.name for entry in fields(cls) if isinstance(entry.default, tuple)}  # type: ignore[arg-type]
    # a field that takes several numbers now may have held one when the model was written
    whole = {
        name: [value] if name in several and isinstance(value, int) else value
        for name, value in values.items()
    }
    return build(cls, whole, "config.json", error=WrongCheckpoint, prefix="recipe.")


def flags_of(words: Sequence[str]) -> set[str]:
    """The flags on a command line, in the spelling with hyphens."""
    return {word.replace("_", "-").partition("=")[0] for word in words if word.startswith("--")}


def recipe_for(words: Sequence[str], papers: Collection[str], own: Collection[str] = ("--data",)) -> str:
    """The recipe a command line starts from: that of the paper's dataset it names, else that for own data.

    >>> recipe_for([], ["mvtec", "visa"]), recipe_for(["--dataset", "visa"], ["mvtec", "visa"])
    ('mvtec', 'visa')
    >>> recipe_for(["--dataset=elpv"], ["mvtec"]), recipe_for(["--data", "images"], ["mvtec"])
    ('own', 'own')

    Args:
        papers: datasets of the paper, each the name of its recipe; the first stands where nothing is named.
        own: flags that name images of one's own.
    """
    flags = [word.replace("_", "-").partition("=")[0] for word in words]
    if "--dataset" in flags:
        place = flags.index("--dataset")
        given = words[place].partition("=")[2] or "".join(words[place + 1 : place + 2])
        return given if given in papers else "own"
    return "own" if set(own) & set(flags) else next(iter(papers))
