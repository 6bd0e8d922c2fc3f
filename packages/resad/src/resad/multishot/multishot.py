"""What the multi-shot extension writes after an evaluation: one folder for each number of shots.

One model is trained; only the references of the unseen categories differ between the folders.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from adcommon.io.files import atomic_write
from resad.compat.official import write_official
from resad.metrics import ResADResult
from resad.model import ResAD
from resad.multishot import charts
from resad.multishot.analysis import METRICS, plot_classes, plot_shots
from resad.multishot.tables import (
    FIELDS,
    SHOT_COLUMNS,
    chart_suffix,
    column,
    epoch_stem,
    latest_table,
    read_table,
    shot_folder,
    table_text,
)
from resad.recipes import Recipe

Results = Mapping[int, Mapping[str, Mapping[str, ResADResult]]]
"""Merged scores by number of shots, draw and category."""

WORST = 3


def write_shots(checkpoints: Path, setting: str, epoch: int, results: Results, model: ResAD) -> None:
    """Write each number of shots' folder: table, charts, and the model in the authors' layout.

    The first draw of references gets the extension's names; further ones their tables in sub-folders `draw2`,
    `draw3`, ...
    """
    for shots, draws in results.items():
        folder = shot_folder(checkpoints, setting, shots)
        for number, categories in enumerate(draws.values(), start=1):
            place = folder if number == 1 else folder / f"draw{number}"
            stem = epoch_stem(setting, epoch, shots)
            table = place / f"{stem}_metrics.csv"
            atomic_write(table, table_text(categories, SHOT_COLUMNS))
            if number == 1:
                write_charts(table, stem, SHOT_COLUMNS, f" - {shots}-Shot - Epoch {epoch}")
        write_official(folder / f"{setting}_{shots}shot_latest.pth", model)


def write_epoch(folder: Path, setting: str, epoch: int, results: Mapping[str, ResADResult]) -> None:
    """Write the table with all seven columns and its charts, as the extension's single training does."""
    stem = epoch_stem(setting, epoch)
    table = folder / f"{stem}_metrics.csv"
    atomic_write(table, table_text(results, tuple(FIELDS)))
    write_charts(table, stem, tuple(FIELDS), f" - Epoch {epoch}")


def write_charts(table: Path, stem: str, columns: Sequence[str], ending: str) -> None:
    """One bar chart for each column that has values, beside its table."""
    rows = read_table(table)
    for name in columns:
        if values := column(rows, name):
            path = table.with_name(f"{stem}_{chart_suffix(name)}.png")
            charts.bar_chart(path, values, name, f"{name} per Class{ending}")


def write_analyses(checkpoints: Path, recipe: Recipe) -> list[Path]:
    """Draw both analyses of a finished multi-shot run; the pictures' paths."""
    shots = checkpoints / "shots_vs_auroc.png"
    plot_shots([checkpoints], [recipe.setting], recipe.shots, shots)
    most = max(recipe.shots)
    folder = shot_folder(checkpoints, recipe.setting, most)
    table = latest_table(folder)
    rows = read_table(table)
    metric = next(name for name in reversed(METRICS) if column(rows, name))
    classes = checkpoints / f"{recipe.test_dataset}_classwise_auroc.png"
    title = f"{METRICS[metric]} per category: {recipe.setting}, {most} shots"
    plot_classes(table, metric, WORST, classes, title, f"{metric} ({most}-shot)")
    return [shots, classes]
