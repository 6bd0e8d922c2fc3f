"""What every recipe does with its values: a recipe is a frozen dataclass, and each paper's is its own."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from adcommon.errors import BadValue, UserError

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)


def flags_of(words: Sequence[str]) -> set[str]:
    """The flags on a command line, in the spelling with hyphens."""
    return {word.replace("_", "-").partition("=")[0] for word in words if word.startswith("--")}


def values_of(flag: str, words: Sequence[str]) -> list[str]:
    """The values of a flag on a command line, each time that it is there.

    >>> values_of("--recipe", ["--recipe", "visa"]), values_of("--recipe", ["--recipe=visa", "--maps"])
    (['visa'], ['visa'])
    """
    values = []
    for word, following in pairwise([*words, ""]):
        name, _, value = word.partition("=")
        if name.replace("_", "-") == flag and (value or following):
            values.append(value or following)
    return values


def is_unchosen(field: str, recipe: object, recipes: Mapping[str, object], given: Collection[str]) -> bool:
    """True if a recipe's value of a field may give way to what fits another backbone: nobody named it.

    Args:
        recipes: of the method; a value that none of them has was chosen by somebody.
        given: fields that the user named.
    """
    values = [getattr(known, field) for known in recipes.values()]
    return field not in given and getattr(recipe, field) in values


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
    if "--dataset" in flags and "--data" not in flags:
        given = values_of("--dataset", words)
        return given[0] if given and given[0] in papers else "own"
    return "own" if set(own) & set(flags) else next(iter(papers))


def say_unused(path: Path, reasons: Mapping[str, str]) -> None:
    """Name the keys of an authors' file that have no effect here, and why."""
    if reasons:
        said = "; ".join(f"{key} ({why})" for key, why in reasons.items())
        logger.warning("%s: keys without effect here: %s", path, said)


def in_authors_form(read: Callable[Concatenate[Path, P], T]) -> Callable[Concatenate[Path, P], T]:
    """A reader of the authors' files, that says so of a file which is none.

    Raises:
        BadValue: names the file, whose values lie elsewhere or are of other types than in the authors'.
    """

    @wraps(read)
    def reader(path: Path, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(path, *args, **kwargs)
        except UserError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise BadValue(
                f"{path} is not in the form of the authors' files ({type(error).__name__}: {error}); compare "
                "it with one of theirs"
            ) from error

    return reader


def refuse_two_datasets(named: str | None, data: Path | None, usual: str | None = None) -> None:
    """Refuse a dataset of the catalogue beside a folder of own images: one of them would be passed over.

    Args:
        named: the dataset that holds now.
        usual: the one that holds where none is named.
    """
    if data is not None and named not in ("folder", usual, None):
        raise BadValue(
            f"--dataset {named} and --data {data} were both given: --data is a folder of your own images, "
            f"--data-root says where {named} lies"
        )
