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
from adcommon.results.page import filled
from adcommon.results.words import MEANINGS

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
    values = {"tables": "\n".join(map(html, tables)), "pictures": "\n".join(pictures)}
    return filled("results", {"title": escape(printable(title)), **values})


def html(table: Table) -> str:
    """For a page: heading, table, notes, and what those columns mean that have a meaning to be told."""

    def head(cell: str) -> str:
        meaning = MEANINGS.get(cell)
        said = escape(cell) if meaning is None else f'<abbr title="{escape(meaning)}">{escape(cell)}</abbr>'
        return f'<th scope="col">{said}</th>'

    def row(first: str, *others: str) -> str:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        return f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'

    header, *body = table.lines
    title = escape(_sentence(table.title))
    told = [
        f"<dt>{escape(cell)}</dt><dd>{escape(MEANINGS[cell])}</dd>"
        for cell in dict.fromkeys(header)
        if cell in MEANINGS
    ]
    legend = ["<details><summary>What the columns mean</summary><dl>", *told, "</dl></details>"]
    return "\n".join(
        [
            f"<h2>{title}</h2>",
            f'<div class="wide" tabindex="0" role="region" aria-label="{title}"><table>',
            f"<thead><tr>{''.join(map(head, header))}</tr></thead><tbody>",
            *(row(*line) for line in body),
            "</tbody></table></div>",
            *(f"<p>{escape(note)}</p>" for note in table.notes),
            *(legend if told else []),
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
