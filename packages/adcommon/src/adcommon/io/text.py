r"""Names of files as text for people and tables, whatever bytes the names are made of.

What cannot stand in a text is written as in Python: \xe9 is a byte that is not UTF-8, \x0a a line break. A
backslash before letters that read like that becomes \x5c, so that no two names are written alike.
"""

import re
from pathlib import Path

_LOOKS_ESCAPED = re.compile(r"\\(?=x[0-9a-f]{2}|u[0-9a-f]{4})")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})")
_NOT_ONE_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_FORMULA = re.compile(f"'*[{_SIGNS}\t\r\n]")
_NOT_A_CELL = re.compile(f"[\ud800-\udfff]|[;\t\r\n](?=[\"']*[{_SIGNS}])")
"""Also what divides cells or rows for some readers, where a formula would begin behind it."""
_QUOTED = re.compile('[",;\t\r\n]')


def printable(name: str | Path) -> str:
    r"""A name on one line, without bytes that are not UTF-8 and without what changes a terminal.

    >>> print(printable("caf\udce9\n.png"), printable(r"C:\x.png"), printable(r"caf\xe9.png"))
    caf\xe9\x0a.png C:\x.png caf\x5cxe9.png
    """
    return _escaped(str(name), _NOT_ONE_LINE)


def csv_cell(value: object) -> str:
    """A value as a cell of a CSV file, quoted where it must be; None is an empty cell.

    Text that a spreadsheet would take for a formula gets an apostrophe in front. Semicolons are quoted too,
    because they divide cells in some countries.

    >>> print(csv_cell("=1+2"), csv_cell(-1.5), csv_cell("-1.5"), csv_cell("a;b"))
    '=1+2 -1.5 -1.5 "a;b"
    """
    if value is None:
        return ""
    text = _escaped(str(value), _NOT_A_CELL)
    if _FORMULA.match(text) and not _is_number(text):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def csv_value(cell: str) -> str:
    """The text that `csv_cell` was given, once a reader of CSV has taken the quotes away."""
    text = cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
    return _ESCAPED.sub(_unescaped, text)


def _escaped(text: str, signs: re.Pattern[str]) -> str:
    return signs.sub(_escape, _LOOKS_ESCAPED.sub(r"\\x5c", text))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds the byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def _unescaped(found: re.Match[str]) -> str:
    if found[2]:
        return chr(int(found[2], 16))
    return bytes([int(found[1], 16)]).decode("utf-8", "surrogateescape")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
