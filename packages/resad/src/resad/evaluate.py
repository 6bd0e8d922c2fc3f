"""Evaluation on unseen categories: the paper's protocol and the standard one, from one pass over the images.

The paper's score maps are scaled by the maxima over all test images of a category; the standard rows use the
constants that the model brings along, so that each image's score depends on that image alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.maps import write_maps
from adcommon.evaluation.measure import measure, with_decision
from adcommon.metrics import image_metrics
from adcommon.models.anomaly_maps import max_score
from adcommon.results.rows import row
from adcommon.types.records import Evaluation, has_pixel_truth
from resad.detector import Level, Maps, ScoreRange, likelihood_map, merged_map, probability_map
from resad.metrics import ResADResult, resad_metrics
from resad.model import LevelScores, ResAD
from resad.recipes import Recipe
from resad.scoring import Outcome, score_target
from resad.targets import Target

MAP_BATCH = 64
"""Images whose maps are upsampled at once."""
OFF = -1.0
"""What the authors write for an AUPRO that was not computed."""


@dataclass(frozen=True, slots=True)
class PaperScores:
    """The paper's numbers of one category; NaN where there is no pixel truth."""

    logps: ResADResult
    """From likelihoods alone."""
    bscores: ResADResult
    """From probabilities alone."""
    merged: ResADResult
    """From their mean, the reported ones."""


def paper_scores(outcome: Outcome, target: Target, preprocess: Preprocess, *, pro: bool) -> PaperScores:
    """The paper's three rows of metrics.

    Args:
        pro: compute AUPRO.
    """
    size = (preprocess.size, preprocess.size)
    normal = [level.normal for level in outcome.levels]
    scale = ScoreRange.of(normal, size)
    logps = _in_pieces(normal, lambda levels: likelihood_map(levels, size, scale))
    bscores = _in_pieces(
        [level.probability for level in outcome.levels], lambda levels: probability_map(levels, size)
    )
    labels = np.array([record.label for record in target.records])
    masks = None
    if has_pixel_truth(target.records):
        masks = np.stack([preprocess.mask(record.mask, record.image) for record in target.records])
    kinds = (logps, bscores, (logps + bscores) / 2)
    return PaperScores(*(_metrics(maps, masks, labels, pro=pro) for maps in kinds))


def standard_scores(outcome: Outcome, target: Target, preprocess: Preprocess, scale: ScoreRange) -> Scores:
    """Maps and image scores with the model's own constants."""
    size = (preprocess.size, preprocess.size)
    pieces = zip(*(_split(level) for level in outcome.levels), strict=True)
    maps = torch.cat([merged_map(piece, size, scale) for piece in pieces])
    return Scores(target.records, preprocess, max_score(maps).numpy(), maps.numpy())


def standard_evaluation(
    scores: Scores, category: str, *, eval_size: str, threshold: float | None
) -> Evaluation:
    """The standard metrics, with what a decision threshold does if there is one."""
    evaluation = measure(scores, category=category, eval_size=eval_size)
    return evaluation if threshold is None else with_decision(evaluation, scores, threshold)


def paper_evaluation(standard: Evaluation, paper: PaperScores) -> Evaluation:
    """The merged scores as a row of the protocol `resad`; the other two kinds as further values."""
    merged = paper.merged
    further = {
        f"{kind}_{name}": value
        for kind, result in (("logps", paper.logps), ("bscores", paper.bscores))
        for name, value in (("image_auroc", result.image_auroc), ("pixel_auroc", result.pixel_auroc))
        if not np.isnan(value)
    }
    return replace(
        standard,
        protocol="resad",
        image_auroc=merged.image_auroc,
        image_ap=merged.image_ap,
        image_f1max=merged.image_f1,
        pixel_auroc=_known(merged.pixel_auroc),
        pixel_ap=_known(merged.pixel_ap),
        pixel_f1max=_known(merged.pixel_f1),
        pixel_threshold=None,
        aupro=None if merged.aupro == OFF else _known(merged.aupro),
        aupro_05=None,
        extra=further,
    )


def report_row(
    evaluation: Evaluation, outcome: Outcome, recipe: Recipe, weights: str, seconds: float
) -> dict[str, Any]:
    """An evaluation as a row of results.json.

    Args:
        weights: where the backbone's came from.
        seconds: wall time of training and evaluation.
    """
    entry = row(
        evaluation,
        method="resad",
        dataset=recipe.test_dataset,
        setting="few-shot",
        backbone=recipe.backbone,
        weights=weights,
        seed=recipe.seed,
        seconds=seconds,
        shots=outcome.shots,
    )
    return entry | {"trained_on": recipe.train_dataset, "references": outcome.draw}


def evaluate(
    model: ResAD,
    preprocess: Preprocess,
    targets: Iterable[Target],
    recipe: Recipe,
    scale: ScoreRange | None,
    *,
    eval_size: str = "map",
    thresholds: dict[int, float] | None = None,
    maps: Path | None = None,
) -> Iterator[tuple[Outcome, list[Evaluation], PaperScores]]:
    """Measure a model on every unseen category, with every draw and number of shots.

    Args:
        scale: the model's own constants, for the standard rows; None: the paper's rows only.
        eval_size: of the standard pixel metrics, see `adcommon.evaluation.measure`.
        thresholds: decision threshold of the image score by number of shots.
        maps: folder for pictures of all test images, from the first draw and the most shots.

    Yields:
        The outcome, its evaluations (standard, and the paper's if the recipe has it), its paper scores.
    """
    for target in targets:
        for outcome in score_target(model, target, recipe):
            own = scale or ScoreRange.of(
                [level.normal for level in outcome.levels], (preprocess.size, preprocess.size)
            )
            scores = standard_scores(outcome, target, preprocess, own)
            threshold = (thresholds or {}).get(outcome.shots)
            standard = standard_evaluation(scores, target.category, eval_size=eval_size, threshold=threshold)
            paper = paper_scores(outcome, target, preprocess, pro=recipe.pro)
            evaluations = [] if scale is None else [standard]
            if recipe.protocol == "resad" or scale is None:
                evaluations.append(paper_evaluation(standard, paper))
            first_draw = outcome.draw == target.draw_names[0]
            if maps is not None and first_draw and outcome.shots == max(recipe.shots):
                write_maps(scores, maps / target.category, threshold)
            yield outcome, evaluations, paper


def _metrics(maps: Maps, masks: np.ndarray | None, labels: np.ndarray, *, pro: bool) -> ResADResult:
    """The seven columns; without masks only those of images."""
    image_scores = max_score(maps).numpy()
    if masks is not None:
        return resad_metrics(maps.numpy(), masks, image_scores, labels, with_aupro=pro)
    image = image_metrics(image_scores, labels)
    nothing = float("nan")
    auroc, ap, f1 = (round(value, 5) for value in (image.auroc, image.ap, image.f1max))
    return ResADResult(auroc, ap, f1, nothing, nothing, nothing, OFF)


def mean_scores(scores: Sequence[PaperScores]) -> PaperScores:
    """The unweighted mean over categories, column by column."""

    def mean(results: Sequence[ResADResult]) -> ResADResult:
        return ResADResult(*np.mean([astuple(result) for result in results], axis=0).tolist())

    kinds = ("logps", "bscores", "merged")
    return PaperScores(*(mean([getattr(score, kind) for score in scores]) for kind in kinds))


def _split(level: LevelScores) -> list[LevelScores]:
    """A few images at a time."""
    pieces = zip(level.normal.split(MAP_BATCH), level.probability.split(MAP_BATCH), strict=True)
    return [LevelScores(*piece) for piece in pieces]


def _in_pieces(levels: Sequence[Level], make: Callable[[list[Level]], Maps]) -> Maps:
    """The maps of all images, a few at a time."""
    pieces = zip(*(level.split(MAP_BATCH) for level in levels), strict=True)
    return torch.cat([make(list(piece)) for piece in pieces])


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
