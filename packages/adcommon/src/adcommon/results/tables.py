"""A table of text, set for a terminal, for Markdown, and for a page in a browser."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import quote

from adcommon.io.text import printable
from adcommon.results.gallery import PAGE

_MARKUP = re.compile(r"[\\`|*~]|\](?=[\[(:])|(?<![^\W_])_|_(?![^\W_])")


@dataclass(frozen=True, slots=True)
class Table:
    """Lines of equal length, the first of which is the header."""

    title: str
    lines: list[list[str]]
    notes: list[str] = field(default_factory=list)
    """Sentences below it."""


def aligned(table: Table) -> str:
    """For a terminal: the first column to the left, the others to the right."""
    lines = [list(map(printable, line)) for line in table.lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    header, *body = (
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    )
    return "\n".join([table.title, header, "  ".join("-" * width for width in widths), *body, *table.notes])


def markdown(table: Table) -> str:
    """The title in bold, the table, the notes."""
    header, *body = map(markdown_row, table.lines)
    rule = "|" + " --- |" + " ---: |" * (len(table.lines[0]) - 1)
    notes = [f"\n{in_markdown(note)}" for note in table.notes]
    return "\n".join([f"**{in_markdown(_sentence(table.title))}**\n", header, rule, *body, *notes])


def markdown_row(cells: Sequence[str]) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(map(in_markdown, cells)) + " |"


def in_markdown(text: str) -> str:
    r"""Text that Markdown shows as it is: no markup, no HTML, one line.

    >>> print(in_markdown("a_1|<i>*c*</i>"))
    a_1\|&lt;i&gt;\*c\*&lt;/i&gt;
    """
    return _MARKUP.sub(r"\\\g<0>", escape(" ".join(printable(text).split()), quote=False))


def page(title: str, tables: Sequence[Table], folder: Path) -> str:
    """One HTML page for `folder`: the tables, and links to every page of pictures below it."""
    galleries = sorted(path.parent.relative_to(folder) for path in folder.rglob(PAGE))
    links = [
        f'<li><a href="{quote(os.fsencode(place / PAGE))}">{escape(printable(place))}</a>'
        for place in galleries
    ]
    pictures = ["<h2>Pictures</h2>", "<ul>", *links, "</ul>"] if links else []
    return "\n".join([_HEAD.format(title=escape(title)), *map(html, tables), *pictures, "</html>", ""])


_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark }}
  body {{ font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 90rem; padding: 1rem }}
  table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
  th, td {{ padding: .2rem .7rem; border-bottom: 1px solid #8884; text-align: right }}
  th:first-child, td:first-child {{ text-align: left }}
</style>
<h1>{title}</h1>"""


def html(table: Table) -> str:
    """For a page: heading, table and notes."""

    def row(tag: str, line: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in line) + "</tr>"

    header, *body = table.lines
    notes = [f"<p>{escape(note)}</p>" for note in table.notes]
    return "\n".join(
        [
            f"<h2>{escape(_sentence(table.title))}</h2>",
            "<table>",
            row("th", header),
            *(row("td", line) for line in body),
            "</table>",
            *notes,
        ]
    )


def percent(mean: float | None, deviation: float | None = None) -> str:
    """A metric for people: "93.79 ± 0.41"; of one run there is no deviation.

    >>> percent(0.9379, 0.0041), percent(0.9379), percent(None)
    ('93.79 ± 0.41', '93.79', '-')
    """
    if mean is None:
        return "-"
    return f"{100 * mean:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def _sentence(title: str) -> str:
    return f"{title[:1].upper()}{title[1:]}"
