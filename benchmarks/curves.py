"""Draw learning curves: image AUROC and, where there are masks, AUPRO of the test images against steps.

uv run python benchmarks/curves.py docs/curves.svg ReContrast/screw=runs/a/screw/metrics.csv ...
draws one panel per method and one colour per set, made of metrics.csv files alone. Trainings write test
values there every `--evaluate-every` epochs or steps.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b")
STYLES = {"image_auroc": "-", "aupro": ":"}
PANEL = (3.6, 2.9)
"""Inches."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric of one run."""

    metric: str
    points: list[tuple[int, float]]
    """Step, percent."""


def curves_of(path: Path) -> list[Curve]:
    """The test values of a metrics.csv; of several categories their mean.

    Raises:
        ValueError: the run never looked at test images.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for metric in STYLES:
        points = [(int(row["step"]), values) for row in rows if (values := _values(row, metric))]
        if points:
            found.append(Curve(metric, [(step, 100 * sum(v) / len(v)) for step, v in points]))
    if not found:
        raise ValueError(f"{path} has no test values; train with --evaluate-every")
    return found


def draw(panels: Mapping[str, Mapping[str, Sequence[Curve]]], path: Path) -> None:
    """One panel per method; in each a colour per set, the same in all panels."""
    sets = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(sets)}
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with rc_context({"svg.hashsalt": "curves", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, (method, runs) in zip(axes, panels.items(), strict=False):
            _panel(panel, method, runs, colours)
        for panel in axes[len(panels) :]:
            panel.set_axis_off()
        handles = [axes[0].plot([], [], color=colours[name], label=name)[0] for name in sets]
        handles += [
            axes[0].plot([], [], color="0.3", linestyle=style, label=label)[0]
            for label, style in zip(("image AUROC", "AUPRO"), STYLES.values(), strict=True)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
        figure.savefig(path, metadata={"Date": None})


def _panel(axes: Axes, method: str, runs: Mapping[str, Sequence[Curve]], colours: Mapping[str, str]) -> None:
    for name, curves in runs.items():
        for curve in curves:
            steps, values = zip(*curve.points, strict=True)
            style = STYLES[curve.metric]
            axes.plot(steps, values, color=colours[name], linestyle=style, marker=".", markersize=4)
    axes.set_title(method)
    axes.set_xlabel("steps")
    axes.set_ylabel("percent")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


def _values(row: Mapping[str, str], metric: str) -> list[float]:
    return [float(text) for name, text in row.items() if name.rpartition("/")[2] == metric and text]


def main(target: str, *runs: str) -> None:
    """Draw the runs, each METHOD/SET=metrics.csv, into an SVG."""
    panels: dict[str, dict[str, list[Curve]]] = {}
    for run in runs:
        label, _, path = run.partition("=")
        method, _, name = label.partition("/")
        panels.setdefault(method, {})[name] = curves_of(Path(path))
    draw(panels, Path(target))


if __name__ == "__main__":
    main(*sys.argv[1:])
