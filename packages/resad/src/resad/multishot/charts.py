"""The extension's charts, drawn without a display."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adcommon.io.files import atomic_write

DPI = 150
BAR, WORST = "#1f77b4", "lightcoral"
COLOURS = ("royalblue", "forestgreen", "darkorange", "purple", "teal", "saddlebrown", "crimson")
"""One per setting, in order; the first two are the extension's."""
LOWEST = 0.75
"""Where the extension's axes begin; lower values move it."""
_MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class Line:
    """Mean AUROC against shots, of one dataset and one kind of AUROC."""

    label: str
    pixel: bool
    """Of pixels (dashed, squares) instead of images (solid, circles)."""
    colour: str
    points: list[tuple[int, float, float]]
    """Shots, mean, and standard deviation over samples; 0 where there is one."""


def ranking(values: Mapping[str, float]) -> list[str]:
    """Categories, best first."""
    return sorted(values, key=lambda name: -values[name])


def bar_chart(path: Path, values: Mapping[str, float], column: str, title: str) -> None:
    """One bar per category, highest first."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    names = ranking(values)
    axes.bar(names, [values[name] for name in names], color="royalblue", label=column)
    axes.set(title=title, xlabel="Class Name", ylabel=f"{column} (fraction)", ylim=(0, 1))
    axes.tick_params(axis="x", rotation=45)
    axes.set_axisbelow(True)
    axes.grid(linestyle="--", alpha=0.6)
    axes.legend(loc="best")
    _save(figure, path)


def shots_chart(path: Path, lines: Sequence[Line], samples: str, lowest: float | None = None) -> None:
    """AUROC against the number of reference images, with error bars where there are several samples.

    Args:
        samples: what the error bars are over, such as "3 draws"; empty without error bars.
        lowest: where the y axis begins. [default: 0.75, or below the lowest value]
    """
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots()
    for line in lines:
        counts, means, spreads = zip(*line.points, strict=True)
        axes.errorbar(
            counts,
            means,
            yerr=spreads if samples else None,
            label=line.label,
            color=line.colour,
            linestyle="--" if line.pixel else "-",
            marker="s" if line.pixel else "o",
            capsize=4,
        )
    bars = f"; error bars: standard deviation over {samples}" if samples else ""
    points = [point for line in lines for point in line.points]
    start = _floor([mean - spread for _, mean, spread in points]) if lowest is None else lowest
    axes.set(
        title="Shot Sensitivity Analysis: AUROC vs Reference Shots",
        xlabel="Number of Reference Shots",
        ylabel=f"AUROC Score (fraction{bars})",
        ylim=(start, 1.0),
        xticks=sorted({count for count, _, _ in points}),
    )
    steps = round((1 - start) / 0.05)
    axes.set_yticks([1 - 0.05 * step for step in range(steps + 1)])
    axes.grid(linestyle="--", alpha=0.6)
    axes.legend(loc="best")
    _save(figure, path)


def classes_chart(path: Path, values: Mapping[str, float], worst: int, title: str, label: str) -> None:
    """One horizontal bar per category, best on top, the worst ones in red."""
    names = ranking(values)
    numbers = [values[name] for name in names]
    colours = [BAR] * (len(names) - worst) + [WORST] * worst
    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, numbers, color=colours)
    axes.invert_yaxis()
    start = _floor(numbers)
    _write_values(axes, numbers, start)
    axes.set(title=title, xlabel=label, xlim=(start, 1.0))
    axes.set_axisbelow(True)
    axes.grid(axis="x", linestyle="--", alpha=0.6)
    note = f"*Highlighted bars = {worst} lowest-performing class{'es' if worst > 1 else ''}"
    figure.supxlabel(note, fontsize=9, x=0.99, ha="right")
    _save(figure, path)


def _write_values(axes: Axes, numbers: Sequence[float], start: float) -> None:
    """Each value with three decimals, inside its bar's end, or beside a bar too short for it."""
    room = 0.06 * (1 - start)
    for place, value in enumerate(numbers):
        inside = value - start > room
        colour = "white" if inside and value > 0.9 else "black"
        axes.text(
            value - 0.005 * (1 - start) if inside else value + 0.005 * (1 - start),
            place,
            f"{value:.3f}",
            va="center",
            ha="right" if inside else "left",
            color=colour,
        )


def _floor(values: Sequence[float]) -> float:
    """The axis begins at 0.75, or on a multiple of 0.05 below the lowest value."""
    lowest = min([LOWEST + _MARGIN, *values]) - _MARGIN
    return max(0.0, int(lowest * 20) / 20)


def _save(figure: Figure, path: Path) -> None:
    atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=DPI))
