"""A detector on the test images of its categories: the standard metrics, and a paper's beside them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adcommon.data.loading import AnomalyDataset
from adcommon.evaluation.collect import Scores, collect
from adcommon.evaluation.maps import write_maps
from adcommon.evaluation.measure import measure, with_decision
from adcommon.io.cache import DiskCache
from adcommon.models.feature_store import FeatureStore
from adcommon.models.sharing import meet, place_of
from adcommon.types.prediction import Detector
from adcommon.types.records import Evaluation, Record, has_pixel_truth
from adcommon.types.threshold import MOST_IMAGES, Threshold, calibrate

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

Protocol = Callable[[Scores, Evaluation], Evaluation]
"""A paper's own numbers from the scores and the standard evaluation of one category."""
Pictures = Callable[[Scores, Path, Threshold | None], None]
"""Writes pictures of one category into a folder; the decision threshold may anchor their colours."""


def evaluate(
    detector: Detector,
    tests: Mapping[str, Sequence[Record]],
    *,
    batch_size: int,
    protocols: Sequence[Protocol] = (),
    cache: DiskCache | None = None,
    workers: int = 0,
    eval_size: str = "map",
    threshold: Threshold | None = None,
    maps: Path | None = None,
    pictures: Sequence[Pictures] = (write_maps,),
    stores: Mapping[str, FeatureStore] | None = None,
    accelerator: "Accelerator | None" = None,
) -> list[Evaluation]:
    """Measure a detector on the test images of each category; one category's maps are in memory at a time.

    Args:
        tests: test images by category.
        protocols: each adds an evaluation after the standard one; they know no tiles, and are left out then.
        eval_size: of the standard pixel metrics, see `measure`.
        threshold: of the image score; if it decides, its rates join the standard evaluation.
        maps: folder for pictures of every test image; None writes none.
        pictures: what to draw there; of tiled images the panels.
        stores: frozen features of the test images by category, where they are kept.
        accelerator: of several processes that all call this, with equal models, and share the scoring.

    Returns:
        Per category the standard evaluation, followed by those of the protocols; on the main process only.
    """
    evaluations = []
    tiled = detector.preprocess.tile is not None
    for category, records in tests.items():
        scores = collect(
            detector,
            AnomalyDataset(records, detector.preprocess, cache),
            batch_size=batch_size,
            workers=workers,
            keep_maps=maps is not None or has_pixel_truth(records),
            store=None if stores is None else stores[category],
            accelerator=accelerator,
        )
        if place_of(accelerator)[0] > 0:
            meet(accelerator)
            continue
        standard = measure(scores, category=category, eval_size=eval_size)
        decision = None if threshold is None else threshold.decision
        evaluations.append(standard if decision is None else with_decision(standard, scores, decision))
        evaluations += [protocol(scores, standard) for protocol in protocols if not tiled]
        if maps is not None:
            for write in (write_maps,) if tiled else pictures:
                write(scores, maps / category if len(tests) > 1 else maps, threshold)
        meet(accelerator)
    return evaluations


def interim_values(evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """Standard metrics in the middle of a training, `<category>/<metric>`, for metrics.csv and the log."""
    values = {
        f"{evaluation.category}/{metric}": value
        for evaluation in evaluations
        for metric in ("image_auroc", "pixel_auroc", "aupro")
        if (value := getattr(evaluation, metric)) is not None
    }
    if values:
        logger.info("%s", "  ".join(f"{name} {100 * value:.2f}" for name, value in values.items()))
    return values


def has_both(records: Sequence[Record]) -> bool:
    """True if there are normal and anomalous images, so that a ranking of them has a meaning."""
    return {record.label for record in records} == {0, 1}


def threshold_of(
    detector: Detector,
    held_out: Sequence[Record],
    *,
    false_alarm_rate: float,
    batch_size: int,
    cache: DiskCache | None = None,
    accelerator: "Accelerator | None" = None,
) -> Threshold | None:
    """The decision threshold from normal images that training has not seen; None if none were held out.

    Several processes share the scoring, as in `evaluate`, and the main one alone has the threshold.
    """
    if not held_out:
        return None
    some = held_out[:: -(-len(held_out) // MOST_IMAGES)]
    dataset = AnomalyDataset(some, detector.preprocess, cache)
    scores = collect(detector, dataset, batch_size=batch_size, keep_maps=False, accelerator=accelerator)
    if place_of(accelerator)[0] > 0:
        return None
    return calibrate(scores.image_scores.tolist(), false_alarm_rate, peaks=scores.peaks)
