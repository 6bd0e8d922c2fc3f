"""From a trained model to numbers: every category, with every draw of its references."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.errors import EmptySplit
from adcommon.evaluation.collect import Scores, collect
from adcommon.evaluation.maps import write_maps
from adcommon.evaluation.measure import measure
from adcommon.io.cache import default_cache
from adcommon.io.files import atomic_write
from adcommon.models.checkpoint import Trained
from adcommon.models.feature_store import FeatureStore, cached_features
from adcommon.results.rows import row
from adcommon.types.facts import Facts
from adcommon.types.records import Evaluation, Record, Split, has_pixel_truth
from inctrl.detector import FewShotModel
from inctrl.network.features import Tower
from inctrl.recipes import Recipe
from inctrl.references import References, drawn, from_file

FEATURE_BATCH = 16
"""Images per pass through the tower when features are computed once."""


def facts(recipe: Recipe, shots: int | None, weights: str) -> Facts:
    """Where a model of this recipe comes from.

    Args:
        shots: references that it was trained with; None where its file does not say.
        weights: where the frozen network's came from.
    """
    return Facts(
        method="inctrl",
        dataset=recipe.is_trained_from,
        setting="few-shot",
        backbone=recipe.backbone,
        weights=weights,
        seed=recipe.seed,
        shots=shots,
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """One category with one set of references."""

    facts: Facts
    """The dataset is that of the test; seed, shots and references are of the draw."""
    scores: Scores
    """Without maps."""
    evaluation: Evaluation

    @property
    def place(self) -> str:
        """Dataset and category."""
        return f"{self.facts.dataset}/{self.evaluation.category}"


def evaluate(
    trained: Trained[FewShotModel, Recipe],
    targets: Sequence[Split],
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
    model = trained.scorer
    for target in targets:
        store = feature_store(
            model.backbone.tower, target.test, model.preprocess, cache=cache, memory_bytes=memory_bytes
        )
        chosen = choose_references(target, trained, shots, seeds, few_shot_dir)
        for number, (seed, references) in enumerate(chosen):
            pictures = maps if number == 0 else None
            scores = collect(
                model.bind(target.category, references),
                store.dataset,
                batch_size=batch_size,
                keep_maps=pictures is not None or has_pixel_truth(target.test),
                store=store,
            )
            if pictures is not None:
                write_maps(scores, pictures / target.dataset / target.category)
            origin = replace(
                trained.facts,
                dataset=target.dataset,
                trained_on=trained.facts.dataset,
                seed=trained.facts.seed if seed is None else seed,
                shots=len(references.images),
                references=references.name,
            )
            evaluation = measure(scores, category=target.category, eval_size=eval_size)
            yield Outcome(origin, replace(scores, anomaly_maps=None), evaluation)


def rows_of(
    outcomes: Iterable[Outcome], trained: Trained[FewShotModel, Recipe], seconds: float
) -> list[dict[str, Any]]:
    """Outcomes as rows of results.json.

    Args:
        seconds: wall time.
    """
    has_text = trained.scorer.backbone.clip is not None
    return [row(out.evaluation, out.facts, seconds=seconds) | {"text": has_text} for out in outcomes]


def choose_references(
    target: Split,
    trained: Trained[FewShotModel, Recipe],
    shots: int | None,
    seeds: Sequence[int],
    few_shot_dir: Path | None,
) -> list[tuple[int | None, References]]:
    """The references of a category, one set for each draw, with the draw's seed; of a file there is none."""
    preprocess = trained.scorer.preprocess
    if few_shot_dir is not None:
        return [(None, from_file(few_shot_dir, target.category, preprocess.size, shots))]
    if not target.train:
        raise EmptySplit(
            f"no normal images of '{target.category}' to draw references from besides those that test: pass "
            "--normal-json-path LIST, or --few-shot-dir DIR"
        )
    count = shots or trained.facts.shots or min(trained.recipe.shots)
    return [(seed, drawn(target.train, count, seed, preprocess)) for seed in seeds]


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


def write_scores(path: Path, scored: Iterable[tuple[str, str, Scores]]) -> None:
    """Write the score of every test image, one line each: CSV.

    Args:
        scored: the dataset, the name of the references, and the scores of a category.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["dataset", "category", "references", "image", "label", "defect", "score"])
    for dataset, references, scores in scored:
        for record, score in zip(scores.records, scores.image_scores.tolist(), strict=True):
            writer.writerow(
                [dataset, record.category, references, record.image, record.label, record.defect, repr(score)]
            )
    atomic_write(path, file.getvalue())
