"""Results as rows: made from evaluations, averaged, written as JSON, CSV, Markdown and text, read back, compared."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adcommon.errors import BadValue
from adcommon.files import atomic_write, json_text, plain
from adcommon.records import Evaluation

METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1max": "image F1max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1max": "pixel F1max",
    "aupro": "AUPRO",
    "aupro_05": "AUPRO@5%",
}
"""Metrics every row has, and their headings; all are fractions in [0, 1], higher is better."""
MEAN = "mean"
"""What stands as category in a row of means."""

_EXPERIMENT = ("method", "dataset", "setting", "backbone", "weights", "shots", "seed", "selection")
"""What distinguishes experiments; rows that agree in it and in the protocol are averaged over their categories."""
_REQUIRED = ("method", "dataset", "category", "protocol", "image_auroc")


def row(
    evaluation: Evaluation,
    *,
    method: str,
    dataset: str,
    setting: str,
    backbone: str,
    weights: str,
    seed: int,
    seconds: float,
    shots: int | None = None,
    selection: str = "last",
) -> dict[str, Any]:
    """One row of results.json: fractions at full precision, None for what is undefined or does not exist.

    Args:
        setting: "one-class", "multi-class", "few-shot" or "zero-shot".
        backbone: the exact tag of the network.
        weights: where its weights come from: "pretrained", "random", or a file.
        seconds: wall time of training and evaluation.
        shots: normal reference images per category, if the method takes any.
        selection: which model was evaluated: "last" step, or "best-on-test", which is an oracle.
    """
    facts = {
        "method": method,
        "dataset": dataset,
        "category": evaluation.category,
        "setting": setting,
        **{name: getattr(evaluation, name) for name in METRICS},
        "protocol": evaluation.protocol,
        "backbone": backbone,
        "weights": weights,
        "seed": seed,
        "seconds": seconds,
        "shots": shots,
        "selection": selection,
        "normal": evaluation.normal,
        "anomalous": evaluation.anomalous,
        "regions": evaluation.regions,
        "image_threshold": evaluation.image_threshold,
        "pixel_threshold": evaluation.pixel_threshold,
        "map_size": evaluation.map_size,
        "extra": evaluation.extra,
    }
    return plain(facts)


def mean_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row of means per experiment and protocol that has several categories.

    Undefined values are left out; "over" says for each metric how many categories had a value.
    """
    means = []
    for group in _grouped(rows, (*_EXPERIMENT, "protocol")):
        if len(group) < 2:
            continue
        mean = {**{name: group[0].get(name) for name in (*_EXPERIMENT, "protocol")}, "category": MEAN, "extra": {}}
        over = {}
        for name in (*METRICS, *_extra_names(group)):
            values = [value for entry in group if (value := _value(entry, name)) is not None]
            target = mean if name in METRICS else mean["extra"]
            target[name] = sum(values) / len(values) if values else None
            over[name] = len(values)
        times = [entry["seconds"] for entry in group if entry.get("seconds") is not None]
        means.append(mean | {"seconds": sum(times) if times else None, "categories": len(group), "over": over})
    return means


def read_results(path: Path) -> list[dict[str, Any]]:
    """The rows of a results.json, given the file or the folder that holds it."""
    file = path / "results.json" if path.is_dir() else path
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadValue(f"no results at {file}; expected the --out folder of a training or an evaluation") from None
    except (ValueError, OSError) as error:
        raise BadValue(f"cannot read {file} as results.json: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(entry, dict) for entry in rows):
        raise BadValue(f"{file} is not a results.json: expected a list of rows, found {type(rows).__name__}")
    for number, entry in enumerate(rows):
        if missing := [name for name in _REQUIRED if name not in entry]:
            raise BadValue(f"{file} is not a results.json: row {number} has no {', '.join(missing)}")
    return rows


def write_results(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    published: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Write results.json (the rows), results.csv (rows and means, one column per value) and results.md (tables)."""
    atomic_write(folder / "results.json", json_text(list(rows)))
    atomic_write(folder / "results.csv", _as_csv([*rows, *mean_rows(rows)]))
    atomic_write(folder / "results.md", markdown(rows, published))


def text(rows: Sequence[Mapping[str, Any]], published: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """Aligned tables for a terminal, one per protocol: percent, the mean last, the paper's numbers beside ours.

    Args:
        published: the paper's fractions, by category and metric. They stand beside the rows of the paper's own
            protocol if there are any, otherwise beside the standard ones.
    """
    return "\n\n".join(_aligned(table) for table in _tables(rows, published))


def markdown(rows: Sequence[Mapping[str, Any]], published: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """The tables of `text` in Markdown."""
    return "\n\n".join(_markdown(table) for table in _tables(rows, published)) + "\n"


def comparison(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Several results in one table: a line per result, means over the categories that all of them have.

    Only the standard protocol is compared: numbers of the papers' own protocols do not compare across methods.

    Args:
        results: rows by the name to show, such as the folder they were read from.
    """
    standard = {name: [entry for entry in rows if entry["protocol"] == "standard"] for name, rows in results.items()}
    places = {name: {(entry["dataset"], entry["category"]) for entry in rows} for name, rows in standard.items()}
    common = set.intersection(*places.values()) if places else set()
    if not common:
        had = "; ".join(f"{name}: {', '.join(sorted(c for _, c in found)) or 'none'}" for name, found in places.items())
        raise BadValue(f"nothing to compare: no category was evaluated under the standard protocol by all ({had})")

    lines = []
    for name, rows in standard.items():
        for group in _grouped(rows, _EXPERIMENT):
            shared = [entry for entry in group if (entry["dataset"], entry["category"]) in common]
            if shared:
                line = mean_rows(shared)[0] if len(shared) > 1 else dict(shared[0])
                lines.append(line | {"result": name})
    categories = f"{len(common)} categories" if len(common) > 1 else next(iter(common))[1]
    columns = _columns(lines, ["result", "method"], [*_EXPERIMENT, "dataset"])
    table = _table(f"standard protocol, {categories}, percent", lines, columns, {})
    return _aligned(table)


@dataclass(frozen=True, slots=True)
class _Table:
    """What the writers of text and Markdown print."""

    title: str
    header: list[str]
    lines: list[list[str]]
    notes: list[str]


def _tables(
    rows: Sequence[Mapping[str, Any]], published: Mapping[str, Mapping[str, float]] | None
) -> list[_Table]:
    protocols = sorted({entry["protocol"] for entry in rows}, key=lambda name: (name != "standard", name))
    tables = []
    for protocol in protocols:
        ours = [entry for entry in rows if entry["protocol"] == protocol]
        lines = [*ours, *mean_rows(ours)]
        note = "standard protocol" if protocol == "standard" else f"protocol of {protocol}, which no other compares with"
        beside = published if published and protocol == protocols[-1] else {}
        tables.append(_table(f"{note}, percent", lines, _columns(lines, ["category"], _EXPERIMENT), beside))
    return tables


def _columns(lines: Sequence[Mapping[str, Any]], always: list[str], if_different: Sequence[str]) -> list[str]:
    different = [name for name in if_different if len({entry.get(name) for entry in lines}) > 1]
    return [*always, *(name for name in different if name not in always)]


def _table(
    title: str,
    lines: Sequence[Mapping[str, Any]],
    columns: list[str],
    published: Mapping[str, Mapping[str, float]],
) -> _Table:
    """Facts in `columns`, then every metric that has a value, each with the paper's beside it if it published one."""
    metrics = [name for name in (*METRICS, *_extra_names(lines)) if any(_value(e, name) is not None for e in lines)]
    paper = {name: [_published(entry, name, lines, published) for entry in lines] for name in metrics}
    header, cells = list(columns), [[_fact(entry.get(name)) for name in columns] for entry in lines]
    for name in metrics:
        beside = any(value is not None for value in paper[name])
        header += [METRICS.get(name, name), *(["paper"] if beside else [])]
        for entry, line, value in zip(lines, cells, paper[name], strict=True):
            line += [_percent(_value(entry, name)), *([_percent(value)] if beside else [])]

    notes = [
        f"{METRICS.get(name, name)}: mean over {count} of {entry['categories']} categories, undefined in the others"
        for entry in lines
        for name, count in entry.get("over", {}).items()
        if name in metrics and count < entry["categories"]
    ]
    if any(entry.get("weights") == "random" for entry in lines):
        notes.append("!!! RANDOM backbone weights: these numbers say nothing about the method !!!")
    if any(entry.get("selection", "last") != "last" for entry in lines):
        notes.append("model selected on the test set: an oracle, not what one would get in use")
    return _Table(title, header, cells, notes)


def _published(
    entry: Mapping[str, Any],
    metric: str,
    lines: Sequence[Mapping[str, Any]],
    published: Mapping[str, Mapping[str, float]],
) -> float | None:
    """The paper's value for a row; for a row of means the mean over the same categories, where it has all of them."""
    if entry["category"] != MEAN or not published:
        return published.get(entry["category"], {}).get(metric)
    categories = {line["category"] for line in lines} - {MEAN}
    values = [published.get(category, {}).get(metric) for category in categories]
    known = [value for value in values if value is not None]
    if known:
        return sum(known) / len(known) if len(known) == len(values) else None
    return published.get(MEAN, {}).get(metric)


def _grouped(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> list[list[Mapping[str, Any]]]:
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for entry in rows:
        groups.setdefault(tuple(entry.get(name) for name in by), []).append(entry)
    return list(groups.values())


def _extra_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for entry in rows for name in entry.get("extra") or {}))


def _value(entry: Mapping[str, Any], name: str) -> float | None:
    """A metric of a row; None also for NaN, which rows made by hand may hold."""
    value = entry.get(name) if name in METRICS else (entry.get("extra") or {}).get(name)
    return None if value is None or math.isnan(value) else value


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _fact(value: object) -> str:
    return "-" if value is None else str(value)


def _aligned(table: _Table) -> str:
    """First column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(table.header, *table.lines, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) if n else cell.ljust(width) for n, (cell, width) in enumerate(zip(line, widths)))
        for line in (table.header, ["-" * width for width in widths], *table.lines)
    ]
    return "\n".join([table.title, *(line.rstrip() for line in lines), *table.notes])


def _markdown(table: _Table) -> str:
    rule = ["---", *["---:"] * (len(table.header) - 1)]
    lines = ["| " + " | ".join(line) + " |" for line in (table.header, rule, *table.lines)]
    notes = [f"\n{note}" for note in table.notes]
    return "\n".join([f"**{table.title[0].upper()}{table.title[1:]}**\n", *lines, *notes])


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    flat = []
    for entry in rows:
        values = {name: value for name, value in entry.items() if name not in ("extra", "over")}
        flat.append(values | (entry.get("extra") or {}))
    columns = list(dict.fromkeys(name for entry in flat for name in entry))
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return file.getvalue()
