"""Put measured results into a page: a table between its marks, made of results.json files alone.

uv run python benchmarks/tables.py docs/results.md floor SCREW=runs/padim-screw ELPV=runs/padim-elpv ...
replaces what stands between the lines `<!-- floor -->` and `<!-- /floor -->`. Each folder is what a training,
an evaluation or `ad sweep` left; its rows are put together over seeds and draws of references.
"""

import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adcommon.io.files import atomic_write
from adcommon.results.rows import read_results

Row = Mapping[str, Any]
HEADINGS = (
    "data | category | method | runs | image AUROC | 95 % of test draws | pixel AUROC | AUPRO | seconds"
)


def table(sets: Iterable[tuple[str, Sequence[Row]]]) -> str:
    """One line per set, category and method; percent, mean ± standard deviation over runs."""
    lines = [f"| {HEADINGS} |", "|---|---|---|---|---|---|---|---|---|"]
    for name, rows in sets:
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            if row["protocol"] == "standard":
                groups.setdefault((row["category"], _method(row)), []).append(row)
        lines += [_line(name, *key, group) for key, group in groups.items()]
    return "\n".join(lines) + "\n"


def _method(row: Row) -> str:
    shots = f", {row['shots']} references" if row.get("shots") else ""
    return f"`{row['method']}`{shots}"


def _line(name: str, category: str, method: str, rows: Sequence[Row]) -> str:
    ends = [_values(rows, f"image_auroc_{end}") for end in ("low", "high")]
    interval = " to ".join(f"{100 * statistics.mean(values):.1f}" for values in ends if values)
    shown = [_spread(_values(rows, metric)) for metric in ("image_auroc", "pixel_auroc", "aupro")]
    seconds = _values(rows, "seconds")
    took = f"{statistics.mean(seconds):.0f}" if seconds else ""
    cells = (name, category, method, str(len(rows)), shown[0], interval, *shown[1:], took)
    return f"| {' | '.join(cells)} |"


def _values(rows: Sequence[Row], name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name) is not None]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = f"{100 * statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.2f}"


def replace_table(page: str, mark: str, text: str) -> str:
    """The page with another table between the marks."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    found = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not found.search(page):
        sys.exit(f"error: the page has no lines {begin} and {end}")
    return found.sub(lambda _: f"{begin}\n{text}{end}", page)


def main() -> None:
    page, mark, *folders = sys.argv[1:]
    sets = [
        (name, read_results(Path(folder))) for name, _, folder in (word.partition("=") for word in folders)
    ]
    file = Path(page)
    atomic_write(file, replace_table(file.read_text(encoding="utf-8"), mark, table(sets)))


if __name__ == "__main__":
    main()
