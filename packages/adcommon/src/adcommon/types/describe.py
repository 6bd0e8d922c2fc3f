"""What a type accepts, for a person."""

from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import Meta


def describe(hint: Any) -> str:
    """What a type accepts, its range included.

    >>> describe(Annotated[int, Meta(ge=1, le=8192)] | None)
    'a whole number from 1 to 8192, or nothing'
    >>> describe(tuple[float, float])
    'a list of 2, each a finite number'
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = [entry for entry in arguments[1:] if isinstance(entry, Meta)]
        return describe(arguments[0]) + "".join(map(_range, limits))
    if origin in (Union, UnionType):
        kinds = [describe(argument) for argument in arguments if argument is not NoneType]
        return " or ".join(kinds) + (", or nothing" if NoneType in arguments else "")
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (tuple, list) or (isinstance(origin, type) and issubclass(origin, Iterable)):
        if origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
            return "an object"
        many = "" if Ellipsis in arguments or origin is not tuple else f" of {len(arguments)}"
        return f"a list{many}, each {describe(arguments[0])}"
    if is_dataclass(hint):
        return "an object with fields"
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
    return names.get(hint, "a path" if hint is Path else getattr(hint, "__name__", str(hint)))


def _range(limits: Meta) -> str:
    words = {"from": limits.ge, "above": limits.gt, "to": limits.le, "below": limits.lt}
    return "".join(f" {word} {limit:.10g}" for word, limit in words.items() if limit is not None)
