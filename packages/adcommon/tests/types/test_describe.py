"""What a type accepts, in words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from adcommon.types.describe import describe
from adcommon.types.values import AboveZero, Positive, Share


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "a whole number"),
        (Share, "a finite number from 0 to 1"),
        (AboveZero | None, "a finite number above 0 to 1000000000, or nothing"),
        (tuple[Positive, ...], "a list, each a whole number from 1 to 2147483647"),
        (tuple[float, float], "a list of 2, each a finite number"),
        (Literal["max", "mean"], "one of max, mean"),
        (Mapping[str, int], "an object"),
        (Path | None, "a path, or nothing"),
    ],
)
def test_types_have_words(hint: Any, words: str) -> None:
    assert describe(hint) == words
