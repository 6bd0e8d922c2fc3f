"""Values from outside, given to dataclasses: types and ranges as the fields say, errors in our words.

A field says its range in its type, see `types.values`. Values are not converted but for what JSON and YAML
have no type for: lists become tuples, text becomes a path, whole numbers become floats.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from adcommon.errors import BadValue, UserError, WrongCheckpoint
from adcommon.io.files import download_gone_wrong
from adcommon.types.describe import describe

T = TypeVar("T")
_LARGEST_JSON = 256 * 2**20
"""Bytes; a list of a million images has fewer."""
_LONGEST_LIST = 10_000
"""Numbers or names in one field; a loop over them takes no minutes."""
_LONGEST_MESSAGE = 400
"""Letters of what is wrong with values that do not go together."""
_LARGEST_YAML, _MOST_YAML_VALUES = 2**20, 100_000
"""Bytes and values of a file of flags."""


def read_json(path: Path, *, error: type[UserError] = BadValue) -> Any:
    """What a JSON file holds.

    Raises:
        UserError: `error`: no such file, too large, not JSON, or nested too deep.
    """
    try:
        if (size := path.stat().st_size) > _LARGEST_JSON:
            raise error(f"{path} has {size} bytes; expected JSON of at most {_LARGEST_JSON}")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UserError:
        raise
    except RecursionError:
        raise error(f"cannot read {path}: it is nested too deep") from None
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from None
    except ValueError as problem:
        raise error(f"cannot read {path} as JSON: {download_gone_wrong(path) or problem}") from None


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, in plain values.

    Raises:
        BadValue: no such file, too large, not YAML, or values that only code could build; names the line.
    """
    import yaml

    try:
        if (size := path.stat().st_size) > _LARGEST_YAML:
            raise BadValue(f"{path} has {size} bytes; expected YAML of at most {_LARGEST_YAML}")
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8-sig"))
        node = loader.get_single_node()
        if _values_of(node) > _MOST_YAML_VALUES:
            raise BadValue(f"{path} repeats its values by anchors more than {_MOST_YAML_VALUES} times")
        return None if node is None else loader.construct_document(node)
    except OSError as problem:
        raise BadValue(f"cannot read {path}: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise BadValue(f"cannot read {path} as YAML: it is not text in UTF-8") from None
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = "" if mark is None else f", line {mark.line + 1}"
        raise BadValue(f"cannot read {path} as YAML{line}: {problem.problem}") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as problem:
        if isinstance(problem, UserError):
            raise
        reason = "it is nested too deep" if isinstance(problem, RecursionError) else str(problem)[:200]
        raise BadValue(f"cannot read {path} as YAML: {reason}") from None


def _values_of(node: Any) -> int:
    """How many values a YAML file holds if each anchor is written out; counts no further than it may."""
    count, waiting = 0, [node]
    while waiting and count <= _MOST_YAML_VALUES:
        count += 1
        value = getattr(waiting.pop(), "value", ())
        if isinstance(value, list):
            waiting += [one for entry in value for one in (entry if isinstance(entry, tuple) else (entry,))]
    return count


def build(
    cls: type[T], values: object, where: str, *, error: type[UserError] = BadValue, prefix: str = ""
) -> T:
    """A dataclass of the values in a file.

    Args:
        values: by field; what is missing takes the field's default.
        where: they stand: the file.
        error: what to raise.
        prefix: of the fields' names in the file: "recipe.".

    Raises:
        UserError: `error`, which names file and field, its value and what was expected.
    """
    at = f"{where}: " if where else ""
    all_of_it = f"{at}{prefix}".rstrip(".: ")
    if not isinstance(values, Mapping):
        raise error(f"{all_of_it} is {shown(values)}; expected an object with fields")
    known = {entry.name: entry for entry in fields(cls) if entry.init}  # type: ignore[arg-type]
    if unknown := [str(name) for name in values if name not in known]:
        raise error(
            f"{all_of_it}: unknown field {', '.join(map(shown, unknown[:5]))}; "
            "was it written by a newer version?"
        )
    needed = [
        name
        for name, entry in known.items()
        if entry.default is MISSING and entry.default_factory is MISSING and name not in values
    ]
    if needed:
        raise error(f"{all_of_it}: the field {needed[0]} is missing")
    hints = _hints(cls)  # type: ignore[arg-type]
    converted = {
        name: convert(value, hints[name], f"{at}{prefix}{name}", error=error)
        for name, value in values.items()
    }
    try:
        return cls(**converted)
    except UserError as problem:  # the values do not go together
        raise error(f"{all_of_it}: {str(problem)[:_LONGEST_MESSAGE]}") from None


def convert(value: object, hint: Any, name: str, *, error: type[UserError] = BadValue) -> Any:
    """One value as a type wants it, whatever its form in JSON.

    Raises:
        UserError: `error`: "image_size is 100000; expected a whole number from 1 to 2048".
    """
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    nested = next((kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)), None)
    if nested is not None and isinstance(value, Mapping):
        return build(nested, value, "", error=error, prefix=f"{name}.")
    if isinstance(value, list | tuple) and len(value) > _LONGEST_LIST and not isinstance(value[0], Mapping):
        raise error(f"{name} has {len(value)} entries; expected at most {_LONGEST_LIST}")
    try:
        converted = msgspec.convert(value, hint, strict=True, dec_hook=_path)
        sound = _finite(converted)
    except (msgspec.ValidationError, ValueError, RecursionError):
        sound = False
    if not sound:
        raise error(f"{name} is {shown(value)}; expected {describe(hint)}")
    return converted


def translated(base: T, values: Callable[[], Mapping[str, Any]], where: str) -> T:
    """A dataclass like `base`, but for values that are translated from a form of somebody else's.

    Raises:
        WrongCheckpoint: they have not that form, or not the types and ranges of the fields; names `where`.
    """
    try:
        return build(type(base), {**vars(base), **values()}, where, error=WrongCheckpoint)
    except WrongCheckpoint:
        raise
    except (UserError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as problem:
        raise WrongCheckpoint(f"{where}: {str(problem)[:_LONGEST_MESSAGE]}") from problem


def check_fields(instance: object, error: type[UserError] = BadValue) -> None:
    """Refuse a dataclass with a value of another type or out of range; for `__post_init__`.

    Raises:
        UserError: `error`, which names the field, its value and what was expected.
    """
    for name, hint in _hints(type(instance)).items():  # type: ignore[arg-type]
        convert(getattr(instance, name), hint, name, error=error)


def shown(value: object) -> str:
    """A value as a message can hold it: short, one line."""
    try:
        text = ascii(value) if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists a thousand deep
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= 60 else f"{text[:57]}..."


@cache
def _hints(cls: type) -> dict[str, Any]:
    """The annotation of each field, with its range."""
    hints = get_type_hints(cls, include_extras=True)
    return {entry.name: hints[entry.name] for entry in fields(cls) if entry.init}


def _path(hint: type, value: object) -> object:
    """What msgspec does not know: a path, written as text."""
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    raise ValueError


def _finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, list | tuple) else True
