"""What a message says of many things: the first few."""

from collections.abc import Iterable

SHOWN = 5


def shorten(entries: Iterable[object]) -> str:
    """The first few entries, separated by commas.

    >>> shorten("abcdef")
    'a, b, c, d, e, ...'
    """
    texts = [str(entry) for entry in entries]
    return ", ".join([*texts[:SHOWN], *(["..."] if len(texts) > SHOWN else [])])


def lines(entries: Iterable[object], indent: int = 2) -> str:
    """The first few entries, each on a line of its own, and how many more there are."""
    texts = [str(entry) for entry in entries]
    more = [f"and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    return "".join(f"\n{'':{indent}}{text}" for text in [*texts[:SHOWN], *more])
