"""A paper's tables: the trainings that fill one again, its numbers, and ours beside them. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

from adcommon.results.rows import MEAN, Published, Row, grouped, paper_value
from adcommon.results.spread import spread
from adcommon.results.tables import Table, percent
from adcommon.results.words import heading

_NOT_KNOWN = "A dash beside ours: that number of the paper is not in our notes."


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """One table of a paper; a method registers them, by name, in the entry-point group `adcommon.papers`."""

    title: str
    command: str
    """The method's training command."""
    flags: tuple[str, ...] = ()
    """Of every training."""
    each: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Flags without hyphens, and their values: a training for every combination."""
    seed: int
    """The paper's, of every training."""
    data: Mapping[str, tuple[str, ...]]
    """Datasets that are trained or tested on, and the categories that the means are over."""
    protocol: str
    """Of our rows that stand beside the paper's."""
    selection: str = "last"
    """Of these."""
    metrics: tuple[str, ...]
    """As rows call them."""
    numbers: Mapping[tuple[str, int | None], Published] = field(default_factory=dict)
    """By dataset and number of references, then by category and metric; METRIC_std is its deviation. What is
    not there is not in our notes."""


def numbers_of(
    recipe: Any, recipes: Mapping[str, Any], published: Mapping[str, Published]
) -> Published | None:
    """The paper's numbers of the recipe that these values are; None: of none, or there are no numbers.

    Args:
        recipe: a dataclass, as are those of `recipes`, which are by name.
        published: the numbers by name of the recipe.
    """
    values = asdict(recipe)
    return next((published[name] for name in published if asdict(recipes[name]) == values), None)


def beside(rows: Sequence[Row], table: PaperTable) -> list[dict[str, Any]]:
    """Ours and the paper's: an entry for every dataset, number of references, category and metric.

    The paper's mean stands beside a mean over the same categories only.

    Returns:
        `dataset`, `shots`, `category`, `metric`; `ours`, `paper` and `difference` (ours - paper), fractions
        or None; `deviation` of ours over `runs`, and `paper_deviation`.
    """
    chosen = [row for row in rows if (row["protocol"], row["selection"]) == (table.protocol, table.selection)]
    found = []
    for alike in grouped(spread(chosen, table.metrics), ("dataset", "shots")):
        dataset, shots = alike[0]["dataset"], alike[0]["shots"]
        published = dict(table.numbers.get((dataset, shots), {}))
        if {line["category"] for line in alike} - {MEAN} != set(table.data[dataset]):
            published.pop(MEAN, None)
        for line, metric in product(alike, table.metrics):
            category, ours = line["category"], line[metric]
            paper = paper_value(line, metric, alike, published)
            found.append(
                {
                    **{"dataset": dataset, "shots": shots, "category": category, "metric": metric},
                    **{"ours": ours, "deviation": line[f"{metric}_std"], "runs": line[f"{metric}_runs"]},
                    **{"paper": paper, "paper_deviation": published.get(category, {}).get(f"{metric}_std")},
                    "difference": None if ours is None or paper is None else ours - paper,
                }
            )
    return found


def table_beside(found: Sequence[Mapping[str, Any]], table: PaperTable, notes: Sequence[str] = ()) -> Table:
    """What `beside` found, in percent: a line for each category, three columns for each metric.

    Args:
        notes: to stand below it.
    """
    places = [
        name for name in ("dataset", "shots") if len({entry[name] for entry in found}) > 1
    ]  # else it is in the title
    header = ["category", *({"shots": "references"}.get(name, name) for name in places), "runs"]
    for metric in table.metrics:
        header += [heading(metric), "paper", "difference"]
    lines = [header]
    for first in range(0, len(found), len(table.metrics)):
        of_line = found[first : first + len(table.metrics)]
        line = [of_line[0]["category"], *(str(of_line[0][name]) for name in places)]
        line.append(str(max(entry["runs"] for entry in of_line)))
        for entry in of_line:
            difference = entry["difference"]
            line += [percent(entry["ours"], entry["deviation"])]
            line += [percent(entry["paper"], entry["paper_deviation"])]
            line += ["-" if difference is None else f"{100 * difference:+.2f}"]
        lines.append(line)
    missing = [_NOT_KNOWN] if any(entry["paper"] is None for entry in found) else []
    return Table(f"{table.title}, percent", lines, [*missing, *notes])
