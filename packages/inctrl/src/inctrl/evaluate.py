"""From a trained model to numbers: every category, with every draw of its references."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.errors import EmptySplit
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.maps import write_maps
from adcommon.evaluation.measure import measure
from adcommon.io.cache import default_cache
from adcommon.io.files import atomic_write
from adcommon.models.feature_store import FeatureStore, cached_features
from adcommon.results.rows import row
from adcommon.types.records import Evaluation, Record, has_pixel_truth
from inctrl.detector import InCTRLDetector, Trained
from inctrl.network.features import Tower, as_features
from inctrl.references import References, drawn, from_file
from inctrl.sources import Target

FEATURE_BATCH = 16
"""Images per pass through the tower when features are computed once."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One category with one set of references."""

    target: Target
    references: References
    seed: int | None
    """Of the draw; None: they came from a file."""
    scores: Scores
    evaluation: Evaluation


def evaluate(
    trained: Trained,
    targets: Sequence[Target],
    *,
    shots: int | None,
    seeds: Sequence[int],
    few_shot_dir: Path | None = None,
    batch_size: int = FEATURE_BATCH,
    cache: bool = True,
    memory_bytes: int = 2**31,
    eval_size: str = "map",
    maps: Path | None = None,
) -> Iterator[Outcome]:
    """Measure a model on each target; test images pass through the tower once for all draws.

    Args:
        shots: references per category; None: all of a few-shot file, else as in training.
        seeds: of the draws of references.
        few_shot_dir: the authors' few-shot files, instead of draws.
        batch_size: images at once.
        cache: keep decoded images and features on disk too.
        memory_bytes: limit of the features kept in memory.
        eval_size: of pixel metrics, see `adcommon.evaluation.measure`.
        maps: folder for a picture of every test image with the first references; None writes none.
    """
    for target in targets:
        store = feature_store(
            trained.backbone.tower, target.test, trained.preprocess, cache=cache, memory_bytes=memory_bytes
        )
        chosen = choose_references(target, trained, shots, seeds, few_shot_dir)
        for number, (seed, references) in enumerate(chosen):
            pictures = maps is not None and number == 0
            scores = collect(
                trained.detector(target.category, references),
                store,
                batch_size=batch_size,
                keep_maps=pictures or has_pixel_truth(target.test),
            )
            evaluation = measure(scores, category=target.category, eval_size=eval_size)
            if maps is not None and pictures:
                write_maps(scores, maps / target.folder)
            yield Outcome(target, references, seed, scores, evaluation)


def choose_references(
    target: Target, trained: Trained, shots: int | None, seeds: Sequence[int], few_shot_dir: Path | None
) -> list[tuple[int | None, References]]:
    """The references of a category, one set for each draw, with the draw's seed."""
    preprocess = trained.preprocess
    if few_shot_dir is not None:
        return [(None, from_file(few_shot_dir, target.category, preprocess.size, shots))]
    if not target.normal:
        raise EmptySplit(
            f"no normal images of '{target.category}' to draw references from besides those that test: pass "
            "--normal-json-path LIST, or --few-shot-dir DIR"
        )
    count = shots or trained.shots or min(trained.recipe.shots)
    return [(seed, drawn(target.normal, count, seed, preprocess)) for seed in seeds]


def feature_store(
    tower: Tower, records: Sequence[Record], preprocess: Preprocess, *, cache: bool, memory_bytes: int
) -> FeatureStore:
    """What the tower says of images, computed now where it is not yet stored.

    Args:
        cache: keep decoded images and features on disk too, not in memory alone.
        memory_bytes: limit of the features kept in memory.
    """
    dataset = AnomalyDataset(records, preprocess, default_cache("images", enabled=cache), memory_bytes=0)
    features = default_cache("features", enabled=cache)
    return cached_features(tower, dataset, FEATURE_BATCH, features, memory_bytes=memory_bytes)


def collect(detector: InCTRLDetector, store: FeatureStore, *, batch_size: int, keep_maps: bool) -> Scores:
    """Score every image of a store once, in order."""
    count, size = len(store), detector.preprocess.size
    image_scores = np.empty(count, dtype=np.float32)
    maps = np.empty((count, size, size), dtype=np.float32) if keep_maps else None
    for places in torch.arange(count).split(batch_size):
        prediction = detector.score_features(as_features(store.batch(places)).to(detector.device))
        image_scores[places.numpy()] = prediction.image_scores.cpu().numpy()
        if maps is not None and prediction.anomaly_maps is not None:
            maps[places.numpy()] = prediction.anomaly_maps.cpu().numpy()
    return Scores(store.dataset.records, detector.preprocess, image_scores, maps)


def report_row(outcome: Outcome, trained: Trained, seconds: float) -> dict[str, Any]:
    """An outcome as a row of results.json; its seed is that of the draw of references.

    Args:
        seconds: wall time.
    """
    recipe = trained.recipe
    return row(
        outcome.evaluation,
        method="inctrl",
        dataset=outcome.target.dataset,
        setting="few-shot",
        backbone=recipe.backbone,
        weights=trained.weights,
        seed=recipe.seed if outcome.seed is None else outcome.seed,
        seconds=seconds,
        shots=len(outcome.references.images),
    ) | {
        "references": outcome.references.name,
        "trained_on": recipe.is_trained_from,
        "text": trained.backbone.clip is not None,
    }


def write_scores(path: Path, scored: Iterable[tuple[Target, str, Scores]]) -> None:
    """Write the score of every test image, one line each: CSV.

    Args:
        scored: categories, with the name of their references.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["dataset", "category", "references", "image", "label", "defect", "score"])
    for target, references, scores in scored:
        for record, score in zip(scores.records, scores.image_scores, strict=True):
            facts = (record.image, record.label, record.defect, repr(float(score)))
            writer.writerow([target.dataset, target.category, references, *facts])
    atomic_write(path, file.getvalue())
