"""Names that become folders: awkward ones work, those that lead elsewhere or fit no system are refused."""

import re
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcommon.errors import BadValue
from adcommon.types.names import as_name, check_category, check_distinct, check_name

AWKWARD = [
    "metal_nut",
    "Flange 2026",
    "#3",
    "a%20b",
    "it's",
    "-x",
    "螺丝",
    "größe",
    ".hidden",
    "a,b;c",
    "=1+1",
    "a.b",
]
REFUSED = [
    *(
        "",
        " ",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc",
        "a\\b",
        "C:",
        "a\nb",
        "a\rb",
        "a\0b",
        'say "x"',
        "a|b",
        "a?",
    ),
    *("a.", "a ", " a", "con", "NUL.txt", "COM1", "caf\udce9", "a\u2028b", "a\x1bb", "x" * 300, "螺" * 60),
]


@pytest.mark.parametrize("name", AWKWARD)
def test_an_awkward_name_is_a_name(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_is_no_folder_is_refused_with_its_place(name: str) -> None:
    with pytest.raises(
        BadValue, match=r"list\.csv, line 2: the category .* cannot be the name of a folder"
    ) as error:
        check_name(name, "category", "list.csv, line 2")
    assert str(error.value).isprintable()


@given(st.text(max_size=120))
def test_what_is_taken_stays_in_its_folder_on_every_system(name: str) -> None:
    try:
        check_name(name)
    except BadValue:
        return
    assert (Path("/runs") / name).resolve().parent == Path("/runs")
    assert PureWindowsPath("C:/runs", name).parent == PureWindowsPath("C:/runs")
    assert PureWindowsPath(name).name == name
    assert len(name.encode()) <= 100


def test_names_of_one_folder_on_some_systems_are_refused() -> None:
    check_distinct(["bolt", "nut", "bolt"])
    for other in ("Bolt", "BOLT"):
        with pytest.raises(BadValue, match=f"the categories 'bolt' and '{other}' are one folder"):
            check_distinct(["bolt", other], "categories")
    with pytest.raises(BadValue, match="are one folder"):
        check_distinct(["caf\u00e9", "cafe\u0301"])


@pytest.mark.parametrize(
    "name", ["recipe.yaml", "Log.txt", "results.json", "model", "RESUME", ".adcommon", ".."]
)
def test_a_category_is_no_name_that_a_run_needs(name: str) -> None:
    with pytest.raises(BadValue, match=rf"list\.csv, line 2: the category '{re.escape(name)}'.*rename it"):
        check_category(name, "list.csv, line 2")


@given(st.one_of(st.text(max_size=150), st.sampled_from([*REFUSED, "model", "results.json", ".adcommon"])))
def test_every_folder_has_a_name_near_its_own(text: str) -> None:
    name = as_name(text)
    assert check_category(name) == as_name(name) == name


@pytest.mark.parametrize("name", [name for name in AWKWARD if not name.startswith(".")])
def test_a_name_that_is_taken_stays(name: str) -> None:
    assert as_name(name) == name
