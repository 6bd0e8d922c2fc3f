"""What shots and categories do to the results, read from the multi-shot tables: two plots, two CSVs."""

import logging
import statistics
from collections.abc import Sequence
from pathlib import Path

from adcommon.data.catalog import DATASETS
from adcommon.errors import BadValue, DatasetNotFound
from adcommon.io.files import atomic_write, csv_text
from resad.multishot import charts
from resad.multishot.tables import column, latest_table, read_table, shot_folder
from resad.recipes import split_setting

logger = logging.getLogger(__name__)

METRICS = {"Image AUC": "Image AUROC", "Pixel AUC": "Pixel AUROC"}
"""Columns that the shots plot draws, and their names in its legend."""


def sample_tables(checkpoints: Sequence[Path], setting: str, shots: int) -> list[Path]:
    """The latest table of every sample of one number of shots: each folder's own, and its further draws'."""
    found = []
    for root in checkpoints:
        folder = shot_folder(root, setting, shots)
        if not folder.is_dir():
            logger.warning("Warning: %s not found.", folder)
            continue
        found += [latest_table(place) for place in (folder, *sorted(folder.glob("draw*")))]
    return found


def plot_shots(
    checkpoints: Sequence[Path],
    settings: Sequence[str],
    shots: Sequence[int],
    out: Path,
    lowest: float | None = None,
) -> None:
    """Draw AUROC, averaged over categories, against the number of shots, and write the numbers beside it.

    Args:
        checkpoints: folders of `resad-multishot`; several are samples of one experiment (training seeds).
        settings: one pair of lines each.

    Raises:
        DatasetNotFound: no table of any setting.
    """
    lines: list[charts.Line] = []
    rows: list[list[str]] = []
    most = 1
    for place, setting in enumerate(settings):
        tables = {k: [read_table(path) for path in sample_tables(checkpoints, setting, k)] for k in shots}
        for name, legend in METRICS.items():
            points: list[tuple[int, float, float]] = []
            for k, samples in tables.items():
                values = [list(column(table, name).values()) for table in samples]
                means = [statistics.fmean(value) for value in values if value]
                if not means:
                    continue
                mean, spread = statistics.fmean(means), statistics.stdev(means) if len(means) > 1 else 0.0
                most = max(most, len(means))
                points.append((k, mean, spread))
                rows.append([setting, name, str(k), f"{mean:.6f}", f"{spread:.6f}", str(len(means))])
            if points:
                colour = charts.COLOURS[place % len(charts.COLOURS)]
                label = f"{_title(setting)} - {legend}"
                lines.append(charts.Line(label, name.startswith("Pixel"), colour, points))
    if not lines:
        raise DatasetNotFound(
            f"no tables of {', '.join(settings)} in {', '.join(map(str, checkpoints))}; run resad-multishot "
            "first, or name its folder with --checkpoints and its setting with --setting"
        )
    charts.shots_chart(out, lines, f"{most} samples" if most > 1 else "", lowest)
    header = ["setting", "metric", "shots", "mean", "standard_deviation", "samples"]
    atomic_write(out.with_suffix(".csv"), csv_text([header, *rows]))


def plot_classes(table: Path, metric: str, worst: int, out: Path, title: str, label: str) -> list[str]:
    """Draw one metric of every category, the worst ones in red, and write the order beside it.

    Args:
        worst: how many are highlighted; never all.

    Returns:
        The worst categories, the very worst last.
    """
    values = column(read_table(table), metric)
    if not values:
        raise BadValue(f"the column '{metric}' of {table} is empty; choose another with --metric")
    count = min(worst, max(1, len(values) - 1))
    ordered = charts.ranking(values)
    lowest = ordered[-count:]
    charts.classes_chart(out, values, count, title, label)
    rows = [
        [str(place), name, f"{values[name]:.6f}", str(name in lowest).lower()]
        for place, name in enumerate(ordered, start=1)
    ]
    atomic_write(out.with_suffix(".csv"), csv_text([["rank", "category", metric, "worst"], *rows]))
    return lowest


def _title(setting: str) -> str:
    """The test dataset as its owners write it."""
    test = split_setting(setting)[1]
    titles = {"mvtec": "MVTec", "folder": "Own images"}
    return titles.get(test) or (DATASETS[test].title if test in DATASETS else test)
