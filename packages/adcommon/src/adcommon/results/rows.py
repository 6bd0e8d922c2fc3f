"""Results as rows: made from evaluations, averaged, written, read back, set in tables."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adcommon.errors import BadValue
from adcommon.io.files import atomic_write, csv_columns, json_text, plain
from adcommon.io.schema import read_json
from adcommon.io.versions import provenance
from adcommon.results import tables
from adcommon.results.stored import stored_rows
from adcommon.results.tables import Table, aligned, percent
from adcommon.results.words import INTERVAL, METRICS, heading
from adcommon.types.facts import Facts
from adcommon.types.records import Evaluation

Row = Mapping[str, Any]
"""One line of results.json."""
Published = Mapping[str, Mapping[str, float]]
"""A paper's fractions, by category and metric."""

MEAN = "mean"
"""What stands as category in a row of means."""
NESTED = ("extra", "over", "certified", "provenance")
"""What is no column of results.csv; its parts are."""
COUNTED = {"detection_rate": "anomalous", "false_alarm_rate": "normal"}
"""Shares of the images of a kind, and the count of these in the row."""

EXPERIMENT = (
    *("method", "dataset", "trained_on", "setting", "backbone", "weights", "shots", "references", "seed"),
    *("selection", "varied"),
)
"""What tells experiments apart; rows that agree in it and in the protocol are averaged over categories."""


def row(
    evaluation: Evaluation, facts: Facts, *, seconds: float | None, selection: str = "last"
) -> dict[str, Any]:
    """One row of results.json: fractions at full precision, None for what is undefined or does not exist.

    Args:
        seconds: wall time of training and evaluation.
        selection: which model was evaluated: that of the "last" step, or "best-on-test", which is an oracle.
    """
    measured = plain(evaluation)
    return {
        "method": facts.method,
        "dataset": facts.dataset,
        "category": measured.pop("category"),
        "setting": facts.setting,
        **{name: measured.pop(name) for name in METRICS},
        "protocol": measured.pop("protocol"),
        **facts.known(),
        "seconds": seconds,
        "shots": facts.shots,
        "selection": selection,
        **measured,
    }


def stamped(rows: Sequence[Row], recipe: object, device: str, note: str | None) -> list[dict[str, Any]]:
    """The rows, each with its `provenance`.

    Args:
        recipe: that the model was trained with, or is tested with.
        device: in words.
        note: the user's own words.
    """
    made = {
        method: provenance(method=method, recipe=recipe, device=device, note=note)
        for method in {row["method"] for row in rows}
    }
    return [{**row, "provenance": made[row["method"]]} for row in rows]


def mean_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One row of means per experiment and protocol that has several categories.

    Undefined values are left out; "over" says for each metric how many categories had a value.
    """
    means = []
    for group in grouped(rows, (*EXPERIMENT, "protocol")):
        if len(group) < 2:
            continue
        average: dict[str, float | None] = {}
        over: dict[str, int] = {}
        certified: dict[str, list[float]] = {}
        for name in (*METRICS, *_extra_names(group)):
            known = [(value, entry) for entry in group if (value := value_of(entry, name)) is not None]
            average[name] = sum(value for value, _ in known) / len(known) if known else None
            over[name] = len(known)
            if any(name in _certified(entry) for _, entry in known):
                ends = [_certified(entry).get(name, (value, value)) for value, entry in known]
                certified[name] = [sum(end) / len(known) for end in zip(*ends, strict=True)]
        means.append(
            {name: group[0][name] for name in (*EXPERIMENT, "protocol") if name in group[0]}
            | {"category": MEAN, "categories": len(group), "over": over}
            | {name: average.pop(name) for name in METRICS}
            | {"certified": certified, "extra": average}
            | {"seconds": sum(entry.get("seconds") or 0 for entry in group)}
        )
    return means


def read_results(path: Path) -> list[dict[str, Any]]:
    """The rows of a results.json, given the file or the folder that holds it."""
    file = path / "results.json" if path.is_dir() else path
    if not file.is_file():
        raise BadValue(f"no results at {file}; expected the --out folder of a training or evaluation")
    rows = read_json(file)
    if not isinstance(rows, list):
        raise BadValue(f"{file} is not a results.json: expected a list of rows, one object each")
    return stored_rows(rows, str(file))


def write_results(folder: Path, rows: Sequence[Row], published: Published | None = None) -> None:
    """Write results.json (the rows), results.csv (rows and means, a column per value), and tables to read.

    Those are results.md and results.html, which also links the pages of pictures below the folder.
    """
    atomic_write(folder / "results.json", json_text(list(rows)))
    atomic_write(folder / "results.csv", _csv([*rows, *mean_rows(rows)]))
    atomic_write(folder / "results.md", markdown(rows, published))
    page = tables.page(folder.resolve().name, _tables(rows, published), folder)
    atomic_write(folder / "results.html", page)


def text(rows: Sequence[Row], published: Published | None = None) -> str:
    """Aligned tables for a terminal, one per protocol: percent, means last, the paper's numbers beside ours.

    The paper's numbers stand in the table of the paper's own protocol if there is one, else in the standard
    one; for a row of means they are averaged over the same categories.
    """
    return "\n\n".join(map(aligned, _tables(rows, published)))


def markdown(rows: Sequence[Row], published: Published | None = None) -> str:
    """The same tables in Markdown."""
    return "\n\n".join(map(tables.markdown, _tables(rows, published))) + "\n"


def _tables(rows: Sequence[Row], published: Published | None) -> list[Table]:
    protocols = sorted({entry["protocol"] for entry in rows}, key=lambda name: (name != "standard", name))
    found = []
    for protocol in protocols:
        ours = [entry for entry in rows if entry["protocol"] == protocol]
        lines = [*ours, *mean_rows(ours)]
        title = f"protocol of {protocol}, comparable with no other"
        if protocol == "standard":
            title = "standard protocol"
        beside = published if published and protocol == protocols[-1] else {}
        found.append(table_of(title, lines, ["category", *different(lines)], beside))
    return found


def table_of(
    title: str, lines: Sequence[Row], facts: list[str], published: Published, *, intervals: bool = False
) -> Table:
    """The facts, then every metric that has a value, with the paper's beside it if it published one.

    Args:
        intervals: also that of the image AUROC.
    """
    columns = [
        [name, *("-" if entry.get(name) is None else str(entry[name]) for entry in lines)] for name in facts
    ]
    for name in (*METRICS, *_extra_names(lines)):
        values = [value_of(entry, name) for entry in lines]
        paper = [paper_value(entry, name, lines, published) for entry in lines]
        if any(value is not None for value in values):
            columns.append([heading(name), *(_cell(entry, name) for entry in lines)])
            if intervals and name == "image_auroc":
                columns.append([INTERVAL, *map(_interval, lines)])
            if any(value is not None for value in paper):
                columns.append(["paper", *map(percent, paper)])

    title += ", percent"
    if any(entry.get("weights") == "random" for entry in lines):
        title += " !!! RANDOM BACKBONE WEIGHTS: these numbers say nothing about the method !!!"
    notes = [
        f"{heading(name)}: mean over {count} of {entry['categories']} categories, else undefined"
        for entry in lines
        for name, count in entry.get("over", {}).items()
        if 0 < count < entry["categories"]
    ]
    if any(map(_certified, lines)):
        notes.append("In brackets: where the exact value certainly lies; computed in bounded memory.")
    if any(entry.get("selection", "last") != "last" for entry in lines):
        notes.append("Model selected on the test set: an oracle, better than what one gets in use.")
    return Table(title, [list(line) for line in zip(*columns, strict=True)], notes)


def paper_value(entry: Row, metric: str, lines: Sequence[Row], published: Published) -> float | None:
    """The paper's value for a row; for a row of means over the same categories, if it has all of them."""
    if entry["category"] != MEAN:
        return published.get(entry["category"], {}).get(metric)
    categories = {line["category"] for line in lines} - {MEAN}
    values = [published.get(category, {}).get(metric) for category in categories]
    known = [value for value in values if value is not None]
    if not known:
        return published.get(MEAN, {}).get(metric)
    return sum(known) / len(known) if len(known) == len(values) else None


def different(lines: Sequence[Row]) -> list[str]:
    """The facts of an experiment in which the lines differ."""
    return [name for name in EXPERIMENT if len({entry.get(name) for entry in lines}) > 1]


def grouped(rows: Sequence[Row], by: Sequence[str]) -> list[list[Row]]:
    """Rows that agree in some fields, together; groups and rows in the order in which they come."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for entry in rows:
        groups.setdefault(tuple(entry.get(name) for name in by), []).append(entry)
    return list(groups.values())


def _extra_names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for entry in rows for name in entry.get("extra") or {}))


def value_of(entry: Row, name: str) -> float | None:
    """A metric of a row; None also for NaN, which rows made by hand may hold."""
    value = entry.get(name) if name in METRICS else (entry.get("extra") or {}).get(name)
    return None if value is None or math.isnan(value) else value


def _cell(entry: Row, name: str) -> str:
    """A metric for people; of what is decided, counts where the row has them."""
    value, of = value_of(entry, name), entry.get(COUNTED.get(name, ""))
    if name in _certified(entry):
        low, high = _certified(entry)[name]
        return f"{percent(value)} ({percent(low)} to {percent(high)})"
    return percent(value) if value is None or of is None else f"{round(value * of)} of {of}"


def _certified(entry: Row) -> Mapping[str, Sequence[float]]:
    """The ends of the intervals of its metrics; none of those that are exact."""
    return entry.get("certified") or {}


def _interval(entry: Row) -> str:
    low, high = entry.get("image_auroc_low"), entry.get("image_auroc_high")
    return "-" if low is None or high is None else f"{percent(low)} to {percent(high)}"


def _csv(rows: Sequence[Row]) -> str:
    flat = [
        {name: value for name, value in entry.items() if name not in NESTED}
        | {name: value for name, value in entry.get("provenance", {}).items() if name != "versions"}
        | (entry.get("extra") or {})
        | {f"{name}_low": low for name, (low, _) in _certified(entry).items()}
        | {f"{name}_high": high for name, (_, high) in _certified(entry).items()}
        for entry in rows
    ]
    return csv_columns(flat)
