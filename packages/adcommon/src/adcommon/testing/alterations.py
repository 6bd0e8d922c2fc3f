"""What becomes of a file whose values are believed: the same content with one value altered."""

import copy
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from adcommon.errors import UserError

Place = tuple[str | int, ...]
"""The names and numbers that lead to a value."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 7, 64, 8192, 10**9, -(10**9), 10**30),
    *(0.0, 0.5, -0.5, 1e-300, 1e300, float("nan"), float("inf"), float("-inf")),
    *("", "x", "7", "0.5", "null", "../../x", "/etc/passwd", "evil", "\x1b[31m", "\ud800", "a" * 5000),
    *([], [0], [1, 2, 3], [10**9], ["x"], [[]], [None], [float("nan")] * 3, [0, 0, 0], [1] * 1000),
    *({}, {"x": 1}, {"value": 1}, {"value": None}),
)
"""What no one had in mind, and some values that may do."""
_REMOVED = object()


def deep(levels: int = 400) -> list[Any]:
    """Lists in lists."""
    content: list[Any] = []
    for _ in range(levels):
        content = [content]
    return content


def places(content: object, above: Place = ()) -> Iterator[Place]:
    """Where values stand in nested dicts and lists, those that hold others included; of a list the first."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield (*above, name)
            yield from places(value, (*above, name))
    elif isinstance(content, list) and content:
        yield (*above, 0)
        yield from places(content[0], (*above, 0))


def alterations(content: Any) -> Iterator[tuple[str, Any]]:
    """Copies with one value replaced, removed or added, each with a name; the content itself is not among."""
    return (_altered(content, place, value) for place, value in _changes(content))


def sample(content: Any, count: int, seed: int = 0) -> Iterator[tuple[str, Any]]:
    """So many of the alterations, the same ones for a seed."""
    changes = _changes(content)
    chosen = random.Random(seed).sample(changes, min(count, len(changes)))
    return (_altered(content, place, value) for place, value in chosen)


def _changes(content: Any) -> list[tuple[Place, Any]]:
    found: list[tuple[Place, Any]] = [(("new",), 1)] if isinstance(content, Mapping) else []
    for place in places(content):
        found += [(place, value) for value in (*VALUES, deep(), _REMOVED)]
        if isinstance(_holder(content, place)[place[-1]], Mapping):
            found.append(((*place, "new"), 1))
    return found


def _altered(content: Any, place: Place, value: object) -> tuple[str, Any]:
    changed = copy.deepcopy(content)
    if value is _REMOVED:
        del _holder(changed, place)[place[-1]]
    else:
        _holder(changed, place)[place[-1]] = copy.deepcopy(value)
    shown = "removed" if value is _REMOVED else f"= {value!r:.40}"
    return f"{'.'.join(map(str, place))} {shown}", changed


def loads_or_is_refused(folder: Path, load: Callable[[Path], object], count: int, seed: int = 0) -> None:
    """Load a model folder with each of so many alterations of its config.json; it stays as it was.

    Raises:
        AssertionError: nothing was refused, or a refusal does not name the folder.
        Exception: any other than a `UserError`.
    """
    file = folder / "config.json"
    before = file.read_text()
    refused = {}
    for name, values in sample(json.loads(before), count, seed):
        file.write_text(json.dumps(values))
        try:
            load(folder)
        except UserError as error:
            refused[name] = str(error)
    file.write_text(before)
    assert refused
    assert {name: message for name, message in refused.items() if str(folder) not in message} == {}


def _holder(content: Any, place: Place) -> Any:
    for name in place[:-1]:
        content = content[name]
    return content
