"""What an evaluation prints and writes, as the scripts of the authors and of the extension do.

The multi-shot extension trains one model; only the references of the unseen categories differ between its
folders, one for each number of shots.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from adcommon.io.files import atomic_write
from resad.compat.official import write_official
from resad.evaluate import Measured, PaperScores, mean_scores
from resad.metrics import ResADResult
from resad.model import ResAD
from resad.multishot import charts
from resad.multishot.analysis import METRICS, plot_classes, plot_shots
from resad.multishot.tables import (
    FIELDS,
    SHOT_COLUMNS,
    column,
    epoch_stem,
    latest_table,
    read_table,
    shot_folder,
    table_text,
)
from resad.recipes import Recipe

logger = logging.getLogger(__name__)

WORST = 3

Grouped = dict[int, dict[str, dict[str, PaperScores]]]
"""By number of shots, draw and category, in the order of evaluation."""
Results = Mapping[str, ResADResult]
"""Merged scores by category."""


class Reports:
    """The authors' files and lines, or the extension's, after every evaluation of one training."""

    def __init__(
        self, model: ResAD, recipe: Recipe, checkpoints: Path, *, tables: bool, multishot: bool
    ) -> None:
        """No evaluation so far.

        Args:
            tables: write a CSV and charts.
            multishot: write the extension's folders instead.
        """
        self.model = model
        self.recipe = recipe
        self.checkpoints = checkpoints
        self.tables = tables
        self.multishot = multishot
        self.best = 0.0
        """Highest selected metric."""

    def write(self, measured: Sequence[Measured], epoch: int) -> None:
        """Print and write what an evaluation gave.

        The authors' `_checkpoints.pth` is rewritten when the selected metric improves, averaged over
        categories, numbers of shots and draws; `_latest.pth` always.

        Args:
            epoch: from 0.
        """
        groups, setting = group(measured), self.recipe.setting
        for shots, draws in groups.items():
            if self.multishot:
                write_shots(self.checkpoints, setting, epoch, shots, draws, self.model)
                continue
            for categories in draws.values():
                for line in lines(epoch, shots if len(groups) > 1 else None, categories):
                    tqdm.write(line)
            if self.tables:
                name = setting if len(groups) == 1 else f"{setting}_{shots}shot"
                write_epoch(self.checkpoints, name, epoch, merged(next(iter(draws.values()))))
        if not self.multishot:
            write_official(self.checkpoints / f"{setting}_latest.pth", self.model)
        now = selected(groups, self.recipe.select)
        if now > self.best:
            write_official(self.checkpoints / f"{setting}_checkpoints.pth", self.model)
        self.best = max(now, self.best)

    def analyse(self) -> None:
        """Draw both analyses of a finished multi-shot training."""
        if self.multishot:
            for picture in write_analyses(self.checkpoints, self.recipe):
                logger.info("drew %s", picture)

    def state_dict(self) -> dict[str, float]:
        """What `load_state_dict` needs."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Continue from a saved state."""
        self.best = state_dict["best"]


def group(measured: Sequence[Measured]) -> Grouped:
    """The paper's scores by number of shots, draw and category."""
    groups: Grouped = {}
    for one in measured:
        groups.setdefault(one.shots, {}).setdefault(one.draw, {})[one.category] = one.paper
    return groups


def merged(categories: Mapping[str, PaperScores]) -> Results:
    """The scores that are reported."""
    return {name: paper.merged for name, paper in categories.items()}


def selected(groups: Grouped, metric: str) -> float:
    """The mean of a merged metric; of image AUROC where a dataset has no pixel truth."""
    means = [
        mean_scores(list(categories.values())).merged
        for draws in groups.values()
        for categories in draws.values()
    ]
    values = [getattr(mean, metric) for mean in means]
    if any(math.isnan(value) for value in values):
        values = [mean.image_auroc for mean in means]
    return sum(values) / len(values)


def lines(epoch: int, shots: int | None, categories: Mapping[str, PaperScores]) -> list[str]:
    """The authors' lines: one per category, then the averages of the three kinds of scores.

    Args:
        shots: begins the average lines where several numbers of shots are evaluated.
    """
    printed = [
        f"Epoch: {epoch}, Class Name: {name}, Image AUC | AP | F1_Score: "
        f"{r.image_auroc} | {r.image_ap} | {r.image_f1}, Pixel AUC | AP | F1_Score | AUPRO: "
        f"{r.pixel_auroc} | {r.pixel_ap} | {r.pixel_f1} | {r.aupro}"
        for name, r in merged(categories).items()
    ]
    mean = mean_scores(list(categories.values()))
    prefix = "" if shots is None else f"{shots}, "
    for kind, r in (("Logps", mean.logps), ("BScores", mean.bscores), ("Merged", mean.merged)):
        printed.append(
            f"{prefix}({kind}) Average Image AUC | AP | F1_Score: {r.image_auroc:.3f} | {r.image_ap:.3f} | "
            f"{r.image_f1:.3f}, Average Pixel AUC | AP | F1_Score | AUPRO: {r.pixel_auroc:.3f} | "
            f"{r.pixel_ap:.3f} | {r.pixel_f1:.3f} | {r.aupro:.3f}"
        )
    return printed


def write_shots(
    checkpoints: Path,
    setting: str,
    epoch: int,
    shots: int,
    draws: Mapping[str, Mapping[str, PaperScores]],
    model: ResAD,
) -> None:
    """Write the folder of a number of shots: table, charts, and the model in the authors' layout.

    The first draw of references gets the extension's names; further ones their tables in sub-folders `draw2`,
    `draw3`, ...
    """
    folder, stem = shot_folder(checkpoints, setting, shots), epoch_stem(setting, epoch, shots)
    for number, categories in enumerate(draws.values(), start=1):
        place = folder if number == 1 else folder / f"draw{number}"
        table = place / f"{stem}_metrics.csv"
        atomic_write(table, table_text(merged(categories), SHOT_COLUMNS))
        if number == 1:
            write_charts(table, stem, SHOT_COLUMNS, f" - {shots}-Shot - Epoch {epoch}")
    write_official(folder / f"{setting}_{shots}shot_latest.pth", model)


def write_epoch(folder: Path, setting: str, epoch: int, results: Results) -> None:
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
            path = table.with_name(f"{stem}_{name.lower().replace(' ', '_')}.png")
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
