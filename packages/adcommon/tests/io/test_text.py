"""Any name survives a table, and none becomes a formula or another name."""

import csv
import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcommon.io.files import csv_columns, csv_text
from adcommon.io.text import csv_cell, csv_value, printable

NAMES = st.one_of(
    st.binary(max_size=20).map(os.fsdecode),
    st.text(max_size=20),
    st.text("\\x5c9eu'=+-@\t\r\n\",; \udce9", max_size=12),
)


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


@given(st.lists(NAMES, min_size=2, max_size=5))
def test_names_come_back_from_a_table_as_they_were(names: list[str]) -> None:
    text = csv_text([names])
    text.encode()
    assert [csv_value(cell) for cell in read(text)[0]] == names


@given(NAMES)
def test_no_name_is_a_formula_in_a_spreadsheet(name: str) -> None:
    for delimiter in ",;\t":
        for row in csv.reader(io.StringIO(csv_text([[name], ["x", name]]), newline=""), delimiter=delimiter):
            for cell in row:
                try:
                    float(cell)
                except ValueError:
                    assert not cell.startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff20"))


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        (-0.5, "-0.5"),
        ("-0.5", "-0.5"),
        (-3, "-3"),
        (0.1 + 0.2, "0.30000000000000004"),
        ("=cmd|' /C calc'!A0.png", "'=cmd|' /C calc'!A0.png"),
        ("-part.png", "'-part.png"),
        ("'=x", "''=x"),
        ("'x", "'x"),
        ("a;b", '"a;b"'),
        ("a;=b", "a\\x3b=b"),
        ("a\n=b", "a\\x0a=b"),
        ("a\r\nb", '"a\r\nb"'),
        ("caf\udce9.png", "caf\\xe9.png"),
        ("caf\\xe9.png", "caf\\x5cxe9.png"),
    ],
)
def test_cells(value: object, cell: str) -> None:
    assert csv_cell(value) == cell


@given(NAMES, NAMES)
def test_a_printable_name_is_one_line_and_belongs_to_one_name(one: str, other: str) -> None:
    text = printable(one)
    text.encode()
    assert text.isprintable() or not any(sign in text for sign in "\n\r\x1b\u2028\u202e")
    assert len(text.splitlines()) <= 1
    assert (text == printable(other)) == (one == other)


def test_columns_stand_in_the_order_of_their_first_appearance() -> None:
    assert read(csv_columns([{"a": 1}, {"b": "=2", "a": None}])) == [["a", "b"], ["1", ""], ["", "'=2"]]
