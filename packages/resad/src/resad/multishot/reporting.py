"""What an evaluation in or after a training prints and writes, as the authors' scripts do."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from resad.compat.official import write_official
from resad.evaluate import PaperScores, mean_scores
from resad.model import ResAD
from resad.multishot.multishot import write_epoch, write_shots
from resad.recipes import Recipe
from resad.scoring import Outcome

Scored = Sequence[tuple[Outcome, PaperScores]]
"""Every unseen category with every draw and number of shots."""
Grouped = dict[int, dict[str, dict[str, PaperScores]]]
"""By number of shots, draw and category."""


def report_evaluation(
    scored: Scored,
    epoch: int,
    best: float,
    model: ResAD,
    recipe: Recipe,
    checkpoints: Path,
    *,
    tables: bool,
    multishot: bool,
) -> float:
    """Print and write what an evaluation gave.

    The authors' `_checkpoints.pth` is rewritten when the selected metric improves, averaged over categories,
    numbers of shots and draws; `_latest.pth` always.

    Args:
        epoch: from 0.
        best: highest selected metric so far.
        tables: write a CSV and charts.
        multishot: write the extension's folders instead.

    Returns:
        The highest selected metric, this evaluation's included.
    """
    groups = group(scored)
    if multishot:
        merged = {
            shots: {
                draw: {name: paper.merged for name, paper in part.items()} for draw, part in draws.items()
            }
            for shots, draws in groups.items()
        }
        write_shots(checkpoints, recipe.setting, epoch, merged, model)
    else:
        for shots, draws in groups.items():
            for categories in draws.values():
                for line in lines(epoch, shots if len(groups) > 1 else None, categories):
                    tqdm.write(line)
            if tables:
                name = recipe.setting if len(groups) == 1 else f"{recipe.setting}_{shots}shot"
                first = next(iter(draws.values()))
                write_epoch(checkpoints, name, epoch, {key: paper.merged for key, paper in first.items()})
        write_official(checkpoints / f"{recipe.setting}_latest.pth", model)
    now = selected(groups, recipe.select)
    if now > best:
        write_official(checkpoints / f"{recipe.setting}_checkpoints.pth", model)
    return max(now, best)


def group(scored: Scored) -> Grouped:
    """The scores by number of shots, draw and category, in the order of evaluation."""
    groups: Grouped = {}
    for outcome, paper in scored:
        groups.setdefault(outcome.shots, {}).setdefault(outcome.draw, {})[outcome.category] = paper
    return groups


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
    printed = []
    for name, paper in categories.items():
        r = paper.merged
        printed.append(
            f"Epoch: {epoch}, Class Name: {name}, Image AUC | AP | F1_Score: "
            f"{r.image_auroc} | {r.image_ap} | {r.image_f1}, Pixel AUC | AP | F1_Score | AUPRO: "
            f"{r.pixel_auroc} | {r.pixel_ap} | {r.pixel_f1} | {r.aupro}"
        )
    mean = mean_scores(list(categories.values()))
    prefix = "" if shots is None else f"{shots}, "
    for kind, r in (("Logps", mean.logps), ("BScores", mean.bscores), ("Merged", mean.merged)):
        printed.append(
            f"{prefix}({kind}) Average Image AUC | AP | F1_Score: {r.image_auroc:.3f} | {r.image_ap:.3f} | "
            f"{r.image_f1:.3f}, Average Pixel AUC | AP | F1_Score | AUPRO: {r.pixel_auroc:.3f} | "
            f"{r.pixel_ap:.3f} | {r.pixel_f1:.3f} | {r.aupro:.3f}"
        )
    return printed
