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
    shots: list[int]
    mean: list[float]
    spread: list[float]
    """Standard deviation over samples; 0 where there is one."""
    pixel: bool
    """Of pixels (dashed, squares) instead of images (solid, circles)."""
    colour: str


def bar_chart(path: Path, values: Mapping[str, float], column: str, title: str) -> None:
    """One bar per category, highest first."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(values.items(), key=lambda item: -item[1])
    axes.bar([name for name, _ in ordered], [value for _, value in ordered], color="royalblue", label=column)
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
        axes.errorbar(
            line.shots,
            line.mean,
            yerr=line.spread if samples else None,
            label=line.label,
            color=line.colour,
            linestyle="--" if line.pixel else "-",
            marker="s" if line.pixel else "o",
            capsize=4,
        )
    values = [mean - spread for line in lines for mean, spread in zip(line.mean, line.spread, strict=True)]
    start = _floor(values) if lowest is None else lowest
    axes.set(
        title="Shot Sensitivity Analysis: AUROC vs Reference Shots",
        xlabel="Number of Reference Shots",
        ylabel="AUROC Score"
        + (f" (fraction; error bars: standard deviation over {samples})" if samples else " (fraction)"),
        ylim=(start, 1.0),
        xticks=sorted({shots for line in lines for shots in line.shots}),
    )
    steps = round((1 - start) / 0.05)
    axes.set_yticks([1 - 0.05 * step for step in range(steps + 1)])
    axes.grid(linestyle="--", alpha=0.6)
    axes.legend(loc="best")
    _save(figure, path)


def classes_chart(path: Path, values: Mapping[str, float], worst: int, title: str, label: str) -> None:
    """One horizontal bar per category, best on top, the worst ones in red.

    Args:
        worst: how many are highlighted.
        label: of the x axis.
    """
    ordered = sorted(values.items(), key=lambda item: -item[1])
    names, numbers = [name for name, _ in ordered], [value for _, value in ordered]
    colours = [BAR] * (len(ordered) - worst) + [WORST] * worst
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
