"""Pages that open from disk, without a server or a network: one head and one viewer go into each file."""

import json
import re
from collections.abc import Mapping
from importlib.resources import files

_FRAGMENTS = ("head", "viewer")
_PLACE = re.compile(r"\{\{(\w+)\}\}")


def filled(template: str, values: Mapping[str, str]) -> str:
    """The page `template`.html of this folder with its fragments, and values in its places.

    Args:
        values: of every place, escaped already; what looks like a place in them stays as it is.
    """
    fragments = {name: _text(name) for name in _FRAGMENTS}
    whole = _PLACE.sub(lambda found: fragments.get(found[1], found[0]), _text(template))
    return _PLACE.sub(lambda found: values[found[1]], whole)


def as_data(value: object) -> str:
    """JSON for a script of a page; `<` is escaped, so that no name can end it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _text(name: str) -> str:
    return files("adcommon.results").joinpath(f"{name}.html").read_text(encoding="utf-8")
