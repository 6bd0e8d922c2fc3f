"""How far results vary: mean and standard deviation over runs that differ in nothing but their seed."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adcommon.errors import BadValue
from adcommon.results.rows import EXPERIMENT, Row, different, grouped, mean_rows, value_of
from adcommon.results.tables import Table, percent
from adcommon.results.words import METRICS

_SAME = ("protocol", *(name for name in EXPERIMENT if name not in ("references", "seed")))


def spread(rows: Sequence[Row], metrics: Iterable[str] = METRICS) -> list[dict[str, Any]]:
    """One row per category and experiment: for each metric mean, deviation (n - 1) and the number of runs.

    The row of a mean over categories is the mean and deviation of each run's mean over categories. A run
    that lacks a metric is left out of that metric.

    Args:
        metrics: as rows call them; also a paper's own.

    Returns:
        The experiment's facts, `category`, `runs`, and by metric `NAME`, `NAME_std`, `NAME_runs`, fractions;
        None for what no run has, and for the deviation of a single run.
    """
    found = []
    for group in grouped([*rows, *mean_rows(rows)], (*_SAME, "category")):
        line: dict[str, Any] = {name: group[0].get(name) for name in (*_SAME, "category")}
        line["runs"] = len(group)
        for metric in metrics:
            values = [value for row in group if (value := value_of(row, metric)) is not None]
            line[metric] = statistics.fmean(values) if values else None
            line[f"{metric}_std"] = statistics.stdev(values) if len(values) > 1 else None
            line[f"{metric}_runs"] = len(values)
        found.append(line)
    return found


def together(results: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The rows of several results, of which the seeds are averaged together.

    Args:
        results: rows by the name of where they stand, such as their folder.

    Raises:
        BadValue: two of them have the same experiment with the same seed, which would count as two runs.
    """
    found: dict[tuple[object, ...], str] = {}
    for name, rows in results.items():
        for row in rows:
            key = tuple(row.get(fact) for fact in (*EXPERIMENT, "protocol", "category"))
            if key in found:
                raise BadValue(
                    f"{found[key]} and {name} both have {row['category']} with seed {row.get('seed')}, and "
                    "nothing in their rows tells them apart; give each run once. What was varied by "
                    "`ad sweep --vary` is in its rows"
                )
            found[key] = name
    return [row for rows in results.values() for row in rows]


def spread_tables(lines: Sequence[Row]) -> list[Table]:
    """The same in percent for people, "93.79 ± 0.41", one table per protocol; what nobody has is left out."""
    tables = []
    for part in grouped(lines, ("protocol",)):
        facts = different(part)
        metrics = [metric for metric in METRICS if any(line[metric] is not None for line in part)]
        header = ["category", *facts, "runs", *(METRICS[metric] for metric in metrics)]
        body = [
            [
                line["category"],
                *("-" if line[name] is None else str(line[name]) for name in facts),
                str(line["runs"]),
            ]
            + [percent(line[metric], line[f"{metric}_std"]) for metric in metrics]
            for line in part
        ]
        title = f"protocol {part[0]['protocol']}, mean ± standard deviation over seeds, percent"
        tables.append(Table(title, [header, *body]))
    return tables
