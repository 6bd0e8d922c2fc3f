"""Every image has a picture of its own, on every system, and nowhere but in the folder of pictures."""

import os
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcommon.results.picture_names import names_of, picture_names
from adcommon.types.records import Record

PARTS = st.one_of(
    st.text(min_size=1, max_size=8),
    st.binary(min_size=1, max_size=8).map(os.fsdecode),
    st.sampled_from(
        ["con", "NUL.png", "a.", " b", "A", "a", "ä", "a\u0308", "x" * 255, "漢" * 85, "index.html", "layers"]
    ),
).filter(lambda name: not set(name) & set("/\0") and name not in (".", ".."))
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join).filter(lambda path: not set(path) & {"\0"})


@given(st.lists(PATHS, unique_by=lambda path: Path(path), max_size=6))
def test_names_are_safe_and_distinct_and_stay_below(images: list[str]) -> None:
    names = picture_names(images)
    folded = [unicodedata.normalize("NFC", name.as_posix()).casefold() for name in names]
    assert len(set(folded)) == len(images)
    files = set(folded)
    for name in names:
        assert not name.is_absolute()
        assert name.as_posix().casefold() not in {"index.html", "scores.csv", ".adcommon", "layers"}
        for part in name.parts:
            part.encode()
            assert part not in ("", ".", "..")
            assert not re.search(r'[\\<>:"|?*\x00-\x1f]|[. ]$|^ ', part)
            assert not re.fullmatch(r"(con|nul|aux|prn)(\..*)?", part, re.IGNORECASE)
            assert len(part.encode()) <= 140
        for parent in name.parents:
            assert unicodedata.normalize("NFC", parent.as_posix()).casefold() not in files


@pytest.mark.parametrize(
    "name", ["part", "IMG 1 (2).JPG", "a#1?%20'".replace("?", ""), "漢字", "-x", "lot2/é"]
)
def test_ordinary_names_stay(name: str) -> None:
    assert picture_names([name]) == [Path(f"{name}.png")]
    assert picture_names([name], ".npy") == [Path(f"{name}.npy")]


def test_a_name_does_not_depend_on_the_order() -> None:
    images = ["A/x", "a/x", "a/con", "b"]
    assert picture_names(images[::-1])[::-1] == picture_names(images)


def test_images_that_differ_in_their_suffix_keep_their_own() -> None:
    records = [Record(Path(f"a/part.{suffix}"), "nut", 0) for suffix in ("png", "bmp", "jpg")]
    assert len(set(names_of(records))) == 3
    assert names_of(records[:1]) == [Path("good/part.png")]


def test_a_long_way_down_is_cut_short() -> None:
    deep = "/".join(["folder" * 15] * 40)
    (name,) = picture_names([f"{deep}/part.png"])
    assert len(name.as_posix()) < 50
    assert name.name == "part.png.png"
