"""Evaluation on unseen categories: the paper's protocol and the standard one, from one pass over the images.

The paper's score maps are scaled by the maxima over all test images of a category; the standard rows use the
constants that the model brings along, so that each image's score depends on that image alone.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from adcommon.data.loading import ordered_indices
from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.maps import write_maps
from adcommon.evaluation.measure import measure, with_decision
from adcommon.metrics import image_metrics
from adcommon.models.anomaly_maps import max_score
from adcommon.models.compute import FULL, Compute
from adcommon.models.sharing import gathered, meet, place_of
from adcommon.results.rows import row
from adcommon.types.facts import Facts
from adcommon.types.records import Evaluation, has_pixel_truth
from adcommon.types.threshold import Threshold, calibrate, images_needed
from adcommon.types.values import Metrics
from resad.detector import (
    FewShotModel,
    Maps,
    ScoreRange,
    left_out,
    likelihood_map,
    merged_map,
    nested_scores,
    probability_map,
)
from resad.metrics import ResADResult, resad_metrics
from resad.model import LevelScores, ResAD, joined
from resad.network.residual import References
from resad.recipes import Recipe
from resad.references import Target

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

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


@dataclass(frozen=True, slots=True)
class Measured:
    """One category with one draw of one number of references."""

    category: str
    shots: int
    draw: str
    paper: PaperScores
    evaluations: Sequence[Evaluation] = ()
    """Rows of the report; none in the middle of a training."""


def facts(recipe: Recipe, weights: str) -> Facts:
    """Where a model of this recipe comes from; `weights` are the backbone's."""
    return Facts(
        method="resad",
        dataset=recipe.test_dataset,
        setting="few-shot",
        backbone=recipe.backbone,
        weights=weights,
        seed=recipe.seed,
        trained_on=recipe.train_dataset,
    )


def report_rows(measured: Iterable[Measured], origin: Facts, *, seconds: float) -> list[dict[str, Any]]:
    """All evaluations as rows of results.json; see `adcommon.results.rows.row`."""
    return [
        row(evaluation, replace(origin, shots=one.shots, references=one.draw), seconds=seconds)
        for one in measured
        for evaluation in one.evaluations
    ]


def evaluate(
    trained: FewShotModel,
    targets: Iterable[Target],
    recipe: Recipe,
    *,
    eval_size: str = "map",
    metrics: Metrics = "exact",
    false_alarm_rate: float | None = None,
    maps: Path | None = None,
    accelerator: "Accelerator | None" = None,
) -> Iterator[Measured]:
    """Measure a model on every unseen category, with every draw and number of shots.

    The standard rows need the model's own constants; the paper's come if the recipe has them, or alone.

    Args:
        metrics: "bounded" has no effect but a warning: the paper's maps are scaled by the maxima over all.
        false_alarm_rate: of the decision threshold, which comes from the references, if these are enough.
        maps: folder for pictures of all test images, from the first draw and the most shots.
        accelerator: of several processes that all run through this, with equal models, and share the scoring;
            the main one alone measures.
    """
    preprocess, scale = trained.preprocess, trained.scale
    if metrics == "bounded":
        logger.warning("metrics stay exact, of all maps in memory: the paper's own protocol needs these")
    for target in targets:
        for (draw, shots), levels in score_target(
            trained.model, target, recipe, accelerator, trained.compute
        ).items():
            own = scale or _range_of(levels, preprocess)
            size = (preprocess.size, preprocess.size)
            merged = torch.cat([merged_map(piece, size, own) for piece in _pieces(levels)])
            scores = Scores(target.records, preprocess, max_score(merged).numpy(), merged.numpy())
            threshold = None
            if scale is not None and false_alarm_rate is not None and not target.aligned:
                chosen = next(each for each in target.draws if each.name == draw)
                references = chosen.of(0).first(shots)
                threshold = threshold_of(trained, references, own, size, false_alarm_rate)
            standard = measure(scores, category=target.category, eval_size=eval_size)
            if threshold is not None and threshold.decision is not None:
                standard = with_decision(standard, scores, threshold.decision)
            paper = paper_scores(levels, target, preprocess, pro=recipe.pro)
            evaluations = [] if scale is None else [standard]
            if recipe.protocol == "resad" or scale is None:
                evaluations.append(paper_evaluation(standard, paper))
            if maps is not None and draw == target.draws[0].name and shots == max(recipe.shots):
                write_maps(scores, maps / target.category, threshold)
            yield Measured(target.category, shots, draw, paper, evaluations)
        meet(accelerator)


def threshold_of(
    trained: FewShotModel,
    references: References,
    scale: ScoreRange,
    size: tuple[int, int],
    false_alarm_rate: float,
) -> Threshold | None:
    """The decision threshold of the image score that references support, each compared with the others."""
    if references.images < images_needed(false_alarm_rate):
        return None
    device = next(trained.model.parameters()).device
    others = left_out(trained.model, references.to(device), size[0], scale, trained.compute)
    scores = others.image_scores.tolist()
    return calibrate(scores, false_alarm_rate, "references", others.peaks) if scores else None


def evaluate_paper(
    model: ResAD,
    preprocess: Preprocess,
    targets: Iterable[Target],
    recipe: Recipe,
    accelerator: "Accelerator | None" = None,
) -> list[Measured]:
    """The paper's numbers alone, in the middle of a training; processes share the work as in `evaluate`."""
    measured = []
    compute = Compute.of(recipe, next(model.parameters()).device)
    for target in targets:
        for (draw, shots), levels in score_target(model, target, recipe, accelerator, compute).items():
            paper = paper_scores(levels, target, preprocess, pro=recipe.pro)
            measured.append(Measured(target.category, shots, draw, paper))
        meet(accelerator)
    return measured


def score_target(
    model: ResAD,
    target: Target,
    recipe: Recipe,
    accelerator: "Accelerator | None" = None,
    compute: Compute = FULL,
) -> dict[tuple[str, int], list[LevelScores]]:
    """What each level says of all test images, on the CPU, by draw and number of shots.

    Each image's features are fetched once for all of them. The model is put in evaluation mode. Several
    processes score a share each, and the main one alone has what they say.
    """
    model.eval()
    rank, world = place_of(accelerator)
    device = next(model.parameters()).device
    shots = sorted(recipe.shots)
    parts: dict[tuple[str, int], list[list[LevelScores]]] = {
        (draw.name, count): [] for draw in target.draws for count in recipe.shots
    }
    images, size = len(target.records), 1 if target.aligned else recipe.test_batch_size
    batches = ordered_indices(images, size)
    what = f"scoring {target.category}"
    for start in tqdm(range(0, len(batches), world), desc=what, unit="batch", disable=None, leave=False):
        said = {}
        for own in batches[start : start + world][rank : rank + 1]:
            features = target.store.batch(own)
            for draw in target.draws:
                references = draw.of(own[0]).to(device)
                for count, scores in nested_scores(model, features, references, shots, compute).items():
                    said[draw.name, count] = [level.cpu() for level in scores]
        for of_batch in gathered(said, accelerator):
            for chosen, levels in of_batch.items():
                parts[chosen].append(levels)
    return {chosen: joined(levels) for chosen, levels in parts.items() if levels}


def paper_scores(
    levels: Sequence[LevelScores], target: Target, preprocess: Preprocess, *, pro: bool
) -> PaperScores:
    """The paper's three rows of metrics; `pro` is whether AUPRO is one of them."""
    size = (preprocess.size, preprocess.size)
    scale = _range_of(levels, preprocess)
    pieces = _pieces(levels)
    logps = torch.cat([likelihood_map([level.normal for level in piece], size, scale) for piece in pieces])
    bscores = torch.cat([probability_map([level.probability for level in piece], size) for piece in pieces])
    labels = np.array([record.label for record in target.records])
    masks = None
    if has_pixel_truth(target.records):
        masks = np.stack([preprocess.mask(record) for record in target.records])
    kinds = (logps, bscores, (logps + bscores) / 2)
    return PaperScores(*(_metrics(maps, masks, labels, pro=pro) for maps in kinds))


def paper_evaluation(standard: Evaluation, paper: PaperScores) -> Evaluation:
    """The merged scores as a row of the protocol `resad`; the other two kinds as further values."""
    merged = paper.merged
    further = {
        f"{kind}_{name}": value
        for kind in ("logps", "bscores")
        for name in ("image_auroc", "pixel_auroc")
        if not np.isnan(value := getattr(getattr(paper, kind), name))
    }
    own = standard.under(
        "resad",
        image_auroc=merged.image_auroc,
        image_ap=merged.image_ap,
        image_f1max=merged.image_f1,
        pixel_auroc=_known(merged.pixel_auroc),
        pixel_ap=_known(merged.pixel_ap),
        pixel_f1max=_known(merged.pixel_f1),
        aupro=None if merged.aupro == OFF else _known(merged.aupro),
        extra=further,
    )
    return replace(own, regions=standard.regions)


def _metrics(maps: Maps, masks: np.ndarray | None, labels: np.ndarray, *, pro: bool) -> ResADResult:
    """The seven columns; without masks only those of images."""
    image_scores = max_score(maps).numpy()
    if masks is not None:
        return resad_metrics(maps.numpy(), masks, image_scores, labels, with_aupro=pro)
    image = image_metrics(image_scores, labels)
    auroc, ap, f1 = (round(value, 5) for value in (image.auroc, image.ap, image.f1max))
    nothing = float("nan")
    return ResADResult(auroc, ap, f1, nothing, nothing, nothing, OFF)


def mean_scores(scores: Sequence[PaperScores]) -> PaperScores:
    """The unweighted mean over categories, column by column."""

    def mean(results: Sequence[ResADResult]) -> ResADResult:
        return ResADResult(*np.mean([astuple(result) for result in results], axis=0).tolist())

    kinds = ("logps", "bscores", "merged")
    return PaperScores(*(mean([getattr(score, kind) for score in scores]) for kind in kinds))


def _pieces(levels: Sequence[LevelScores]) -> list[tuple[LevelScores, ...]]:
    """A few images at a time, because maps are larger than what levels say."""
    return list(zip(*(level.split(MAP_BATCH) for level in levels), strict=True))


def _range_of(levels: Sequence[LevelScores], preprocess: Preprocess) -> ScoreRange:
    return ScoreRange.of([level.normal for level in levels], (preprocess.size, preprocess.size))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
