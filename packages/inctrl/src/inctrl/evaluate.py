"""From a trained model to numbers: every category, with every draw of its references."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adcommon.data.readable import refuse_references
from adcommon.evaluation.bounded import Passing
from adcommon.evaluation.collect import Scores, kept, scored
from adcommon.evaluation.evaluate import needs_all_maps
from adcommon.evaluation.maps import write_maps
from adcommon.evaluation.measure import measure, with_decision
from adcommon.io.files import atomic_write, csv_text
from adcommon.models.checkpoint import Trained
from adcommon.models.sharing import meet, place_of
from adcommon.results.rows import row
from adcommon.types.facts import Facts
from adcommon.types.records import Evaluation, Split, has_pixel_truth
from adcommon.types.threshold import Threshold, calibrate, images_needed
from inctrl.backbone import feature_store
from inctrl.detector import FewShotModel, InCTRLDetector
from inctrl.recipes import Recipe
from inctrl.references import References, drawn, from_file, refuse_missing
from inctrl.settings import TestSettings, TrainSettings

if TYPE_CHECKING:
    from accelerate import Accelerator


def facts(recipe: Recipe, weights: str, shots: int | None) -> Facts:
    """Where a model of this recipe comes from; `shots` is None where its file does not say."""
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
    settings: TrainSettings | TestSettings,
    *,
    shots: int | None,
    seeds: Sequence[int],
    batch_size: int,
    maps: Path | None = None,
    accelerator: "Accelerator | None" = None,
) -> Iterator[Outcome]:
    """Measure a model on each target; test images pass through the tower once for all draws.

    Args:
        settings: few-shot files instead of draws, what is kept of images and features, the size of the pixel
            metrics, and the false-alarm rate of the decisions.
        shots: references per category; None: all of a few-shot file, else as in training.
        maps: folder for a picture of every test image with the first references; None writes none.
        accelerator: of several processes that all run through this, with equal models, and share the scoring;
            the main one alone has outcomes.
    """
    model = trained.scorer
    for target in targets:
        tower = model.compute.frozen(model.backbone.tower)
        store = feature_store(tower, target.test, model.preprocess, settings, accelerator)
        chosen = choose_references(target, trained, shots, seeds, settings.few_shot_dir)
        for number, (seed, references) in enumerate(chosen):
            refuse_references(references.paths, target, model.preprocess, store.dataset.cache)
            pictures = maps / target.dataset / target.category if maps and number == 0 else None
            detector = model.bind(target.category, references)
            threshold = threshold_of(detector, references, settings.false_alarm_rate)
            predictions = scored(
                detector, store.dataset, batch_size=batch_size, store=store, accelerator=accelerator
            )
            passing = None
            if settings.metrics == "bounded" and not needs_all_maps(target.test):
                passing = Passing(
                    store.dataset, eval_size=settings.eval_size, maps=pictures, threshold=threshold
                )
                predictions = passing.without_maps(predictions)
            keep_maps = pictures is not None or has_pixel_truth(target.test)
            scores = kept(predictions, store.dataset, keep_maps=keep_maps)
            if place_of(accelerator)[0] > 0:
                meet(accelerator)
                continue
            if passing is not None:
                evaluation = passing.measured(scores, target.category)
            else:
                evaluation = measure(scores, category=target.category, eval_size=settings.eval_size)
                if pictures is not None:
                    write_maps(scores, pictures, threshold)
            origin = replace(
                trained.facts,
                dataset=target.dataset,
                trained_on=trained.facts.dataset,
                seed=trained.facts.seed if seed is None else seed,
                shots=len(references.images),
                references=references.name,
            )
            if threshold is not None and threshold.decision is not None:
                evaluation = with_decision(evaluation, scores, threshold.decision)
            yield Outcome(origin, replace(scores, anomaly_maps=None), evaluation)
            meet(accelerator)


def threshold_of(
    detector: InCTRLDetector, references: References, false_alarm_rate: float
) -> Threshold | None:
    """The decision threshold that the references support, each compared with the others; None: none."""
    if len(references.images) < images_needed(false_alarm_rate):
        return None
    others = detector.left_out()
    scores = others.image_scores.tolist()
    return calibrate(scores, false_alarm_rate, "references", others.peaks) if scores else None


def rows_of(
    outcomes: Iterable[Outcome], trained: Trained[FewShotModel, Recipe], seconds: float
) -> list[dict[str, Any]]:
    """Outcomes as rows of results.json."""
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
    count = shots or trained.facts.shots or min(trained.recipe.shots)
    refuse_missing([target], count, None, preprocess.size)
    return [(seed, drawn(target.train, count, seed, preprocess)) for seed in seeds]


def write_scores(path: Path, scored: Iterable[tuple[str, str, Scores]]) -> None:
    """Write the score of every test image, one line each: CSV.

    Args:
        scored: the dataset, the name of the references, and the scores of a category.
    """
    lines = [
        (dataset, record.category, references, record.image, record.label, record.defect, score)
        for dataset, references, scores in scored
        for record, score in zip(scores.records, scores.image_scores.tolist(), strict=True)
    ]
    header = ("dataset", "category", "references", "image", "label", "defect", "score")
    atomic_write(path, csv_text([header, *lines]))
