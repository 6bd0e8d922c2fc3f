"""A detector on the test images of its categories: the standard metrics, and a paper's beside them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adcommon.data.loading import AnomalyDataset
from adcommon.data.loco import find_config
from adcommon.evaluation.bounded import Passing
from adcommon.evaluation.collect import Scores, collect, device_of, kept, scored
from adcommon.evaluation.maps import write_maps
from adcommon.evaluation.measure import measure, with_decision
from adcommon.io.cache import DiskCache
from adcommon.models.feature_store import FeatureStore
from adcommon.models.sharing import meet, place_of
from adcommon.types.prediction import Detector
from adcommon.types.records import Evaluation, Record, has_pixel_truth
from adcommon.types.threshold import MOST_IMAGES, Threshold, calibrate
from adcommon.types.values import Metrics

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
    workers: int | None = 0,
    eval_size: str = "map",
    threshold: Threshold | None = None,
    maps: Path | None = None,
    pictures: Sequence[Pictures] = (write_maps,),
    stores: Mapping[str, FeatureStore] | None = None,
    metrics: Metrics = "exact",
    accelerator: "Accelerator | None" = None,
) -> list[Evaluation]:
    """Measure a detector on the test images of each category; one category's maps at most are in memory.

    Beside a GPU it is two: a category is measured on the host while the GPU scores the next.

    Args:
        tests: test images by category.
        protocols: each adds an evaluation after the standard one; they know no tiles, and are left out then.
        eval_size: of the standard pixel metrics, see `measure`.
        threshold: of the image score; if it decides, its rates join the standard evaluation.
        maps: folder for pictures of every test image; None writes none.
        pictures: what to draw there; of tiled images the panels.
        stores: frozen features of the test images by category, where they are kept.
        metrics: "bounded" keeps no map longer than a batch, and gives pixel metrics with an interval that
            certainly holds the exact value; what needs all maps, such as a protocol, makes them exact.
        accelerator: of several processes that all call this, with equal models, and share the scoring.

    Returns:
        Per category the standard evaluation, followed by those of the protocols; on the main process only.
    """
    measured: list[Future[list[Evaluation]]] = []
    beside = ThreadPoolExecutor(1) if device_of(detector).type == "cuda" else _Now()
    if detector.preprocess.tile is not None:
        protocols, pictures = (), (write_maps,)
    with beside:
        for category, records in tests.items():
            dataset = AnomalyDataset(records, detector.preprocess, cache)
            folder = maps / category if maps is not None and len(tests) > 1 else maps
            predictions = scored(
                detector,
                dataset,
                batch_size=batch_size,
                workers=workers,
                store=None if stores is None else stores[category],
                accelerator=accelerator,
            )
            how = partial(measure, category=category, eval_size=eval_size)
            draws = pictures if folder is not None else ()
            if metrics == "bounded" and not needs_all_maps(records, protocols, draws):
                passing = Passing(dataset, eval_size=eval_size, maps=folder, threshold=threshold)
                predictions, draws = passing.without_maps(predictions), ()
                how = partial(passing.measured, category=category)
            scores = kept(predictions, dataset, keep_maps=maps is not None or has_pixel_truth(records))
            if place_of(accelerator)[0] == 0:
                task = partial(_measured, scores, how, protocols, threshold, draws, folder)
                measured.append(beside.submit(task))
                measured[max(0, len(measured) - 2)].result()  # no third category's maps
            meet(accelerator)
    return [evaluation for each in measured for evaluation in each.result()]


class _Now(Executor):
    """Does at once what it is given."""

    def submit(self, task: Callable[[], Any]) -> Future[Any]:  # type: ignore[override]
        done: Future[Any] = Future()
        done.set_result(task())
        return done


def _measured(
    scores: Scores,
    how: Callable[[Scores], Evaluation],
    protocols: Sequence[Protocol],
    threshold: Threshold | None,
    pictures: Sequence[Pictures],
    folder: Path | None,
) -> list[Evaluation]:
    """The evaluations of one category, whose pictures are written."""
    standard = how(scores)
    decision = None if threshold is None else threshold.decision
    evaluations = [standard if decision is None else with_decision(standard, scores, decision)]
    evaluations += [protocol(scores, standard) for protocol in protocols]
    for write in pictures:
        assert folder is not None
        write(scores, folder, threshold)
    return evaluations


def needs_all_maps(
    records: Sequence[Record], protocols: Sequence[Protocol] = (), pictures: Sequence[Pictures] = ()
) -> bool:
    """True, and said, if bounded memory is not enough for all that is asked for."""
    needs = {
        "the paper's own protocol": bool(protocols),
        "the paper's own pictures": any(write is not write_maps for write in pictures),
        "the saturated overlap": find_config(records) is not None,
    }
    for what in (what for what, needed in needs.items() if needed):
        logger.warning("metrics stay exact, of all maps in memory: %s needs these", what)
    return any(needs.values())


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
