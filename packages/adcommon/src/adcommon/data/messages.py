"""What a message says of many things: the first few."""

from collections.abc import Iterable
from pathlib import Path

from adcommon.io.text import printable

SHOWN = 5


def shorten(entries: Iterable[object]) -> str:
    """The first few entries, separated by commas.

    >>> shorten("abcdef")
    'a, b, c, d, e, ...'
    """
    texts = _texts(entries)
    return ", ".join([*texts[:SHOWN], *(["..."] if len(texts) > SHOWN else [])])


def lines(entries: Iterable[object], indent: int = 2) -> str:
    """The first few entries, each on a line of its own, and how many more there are."""
    texts = _texts(entries)
    more = [f"and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    return "".join(f"\n{'':{indent}}{text}" for text in [*texts[:SHOWN], *more])


def _texts(entries: Iterable[object]) -> list[str]:
    return [printable(entry) if isinstance(entry, Path) else str(entry) for entry in entries]
