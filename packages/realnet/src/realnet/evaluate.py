"""Evaluation: the standard metrics, and the paper's columns, pictures and choice of model beside them."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from jaxtyping import Bool, Float, UInt8
from PIL import Image as PillowImage
from skimage.segmentation import find_boundaries

from adcommon.data.preprocess import Preprocess
from adcommon.data.readable import kinds_of
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.evaluate import Protocol, evaluate, has_both, interim_values, threshold_of
from adcommon.evaluation.measure import maps_with_masks, masks_as_labels
from adcommon.io.cache import default_cache
from adcommon.io.files import atomic_write
from adcommon.metrics import auroc, f1_max
from adcommon.metrics.variants.rankings import mirrored_auroc
from adcommon.models.checkpoint import save_trained
from adcommon.models.sharing import as_on_main
from adcommon.results.picture_names import picture_names
from adcommon.results.pictures import heat_map, png, reference_overlay
from adcommon.results.rows import row
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.types.facts import Facts
from adcommon.types.records import Evaluation, Record, Split, has_pixel_truth
from adcommon.types.threshold import Threshold
from realnet.detector import RealNetDetector
from realnet.metrics import realnet_pro
from realnet.model import RealNet
from realnet.published import PAPER
from realnet.recipes import Recipe

OUTLINE = (255, 0, 0)


def facts(recipe: Recipe, weights: str) -> Facts:
    """Where a model of this recipe comes from, and its backbone's weights."""
    return Facts(
        method="realnet",
        dataset=recipe.dataset,
        setting="one-class",
        backbone=recipe.backbone,
        weights=weights,
        seed=recipe.seed,
    )


def protocols(recipe: Recipe) -> list[Protocol]:
    """The paper's rows, if the recipe has them."""
    return [partial(paper_protocol, recipe=recipe)] if recipe.protocol == "realnet" else []


def paper_protocol(scores: Scores, standard: Evaluation, recipe: Recipe) -> Evaluation:
    """The paper's columns, labelled `realnet`: image and pixel AUROC, and its PRO in `extra`.

    As in the reference an image counts as anomalous if its resized mask is not empty, whatever its folder;
    where there are no masks, by its folder. Its PRO is no fraction: regions with holes can push it above 1.
    """
    area = mirrored_auroc if recipe.reference_auroc else auroc
    labels: Bool[np.ndarray, " images"] = scores.labels > 0
    pixel, extra = None, {}
    if scores.anomaly_maps is not None and has_pixel_truth(scores.records):
        masks, labels = masks_as_labels(scores, standard.category)
        pixel = area(scores.anomaly_maps, masks)
        extra = {"pro": realnet_pro(scores.anomaly_maps, masks)}
    return standard.under(
        "realnet",
        image_auroc=area(scores.image_scores, labels),
        pixel_auroc=pixel,
        labels=labels.tolist(),
        extra=extra,
    )


class Validation:
    """The test images of a model, and the best that was measured on them so far.

    The paper's code keeps the epoch that is best on the test set, an oracle. It is kept and reported beside
    the last one, and named as what it is.
    """

    def __init__(
        self,
        model: RealNet,
        preprocess: Preprocess,
        split: Split,
        recipe: Recipe,
        settings: Settings,
        accelerator: Accelerator,
    ) -> None:
        """Nothing is computed before the first measurement, which all processes share; the main one keeps."""
        self.model, self.preprocess, self.recipe, self.settings = model, preprocess, recipe, settings
        self.accelerator = accelerator
        self.split, self.category, self.tests = split, split.category, split.test
        self.best = -1.0
        self.best_rows: list[dict[str, Any]] = []
        self._cache = default_cache("images", enabled=settings.cache)
        self._began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, and the rows of the report that it came with."""
        return {"best": self.best, "best_rows": self.best_rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.best, self.best_rows = float(state_dict["best"]), list(state_dict["best_rows"])

    def interim(self, step: int, run: Run) -> dict[str, float]:
        """Test metrics after `step` updates, for metrics.csv and the log; the best model so far is kept."""
        if not has_both(self.tests):
            return {}
        evaluations = self._evaluate()
        if self.accelerator.is_main_process:
            self._keep_best(evaluations, step, run)
        # The paper's columns are left out; and one category needs no name.
        return {name.rpartition("/")[2]: value for name, value in interim_values(evaluations[:1]).items()}

    def final(self, step: int, held_out: Sequence[Record], run: Run) -> list[dict[str, Any]]:
        """Evaluate the model after its last step and save it; the rows of the report, those of the best last.

        Args:
            held_out: normal images that training has not seen, for the decision threshold.

        Returns:
            On the main process only.
        """
        as_on_main(self.model, self.accelerator)
        threshold = threshold_of(
            RealNetDetector(self.model, self.preprocess, self.recipe),
            held_out,
            false_alarm_rate=self.settings.false_alarm_rate,
            batch_size=self.recipe.test_batch_size,
            cache=self._cache,
            accelerator=self.accelerator,
        )
        evaluations = self._evaluate(
            threshold=threshold,
            maps=run.maps if self.settings.maps else None,
        )
        if not self.accelerator.is_main_process:
            return []
        rows = self._rows(evaluations, "last")
        self._save(run.model, step, rows, threshold)
        self._keep_best(evaluations, step, run)
        return rows + self.best_rows

    def _keep_best(self, evaluations: Sequence[Evaluation], step: int, run: Run) -> None:
        key = key_metric(evaluations)
        if self.recipe.keep_best and key >= self.best:  # Faithful: of equal results the latest is kept
            self.best, self.best_rows = key, self._rows(evaluations, "best-on-test")
            self._save(run.best_model, step, self.best_rows)

    def _evaluate(self, *, threshold: Threshold | None = None, maps: Path | None = None) -> list[Evaluation]:
        as_on_main(self.model, self.accelerator)
        return evaluate(
            RealNetDetector(self.model, self.preprocess, self.recipe),
            {self.category: self.tests},
            batch_size=self.recipe.test_batch_size,
            protocols=protocols(self.recipe),
            cache=self._cache,
            workers=self.settings.workers,
            eval_size=self.settings.eval_size,
            metrics=self.settings.metrics,
            threshold=threshold,
            maps=maps,
            accelerator=self.accelerator,
        )

    def _rows(self, evaluations: Sequence[Evaluation], selection: str) -> list[dict[str, Any]]:
        origin, seconds = facts(self.recipe, self.settings.weights), time.monotonic() - self._began
        return [row(evaluation, origin, seconds=seconds, selection=selection) for evaluation in evaluations]

    def _save(
        self, folder: Path, step: int, rows: list[dict[str, Any]], threshold: Threshold | None = None
    ) -> None:
        save_trained(
            folder,
            self.model.state_dict(),
            PAPER,
            facts(self.recipe, self.settings.weights),
            recipe=self.recipe,
            preprocess=self.preprocess,
            categories=[self.category],
            threshold=threshold,
            kinds=kinds_of({self.category: self.split}, self.preprocess, self._cache),
            learned_from=self.split.train,
            rows=rows,
            own={"step": step},
        )


def key_metric(evaluations: Sequence[Evaluation]) -> float:
    """What the reference chooses its epoch by: the mean of image and pixel AUROC, by its own labels."""
    evaluation = evaluations[-1]
    values = [value for value in (evaluation.image_auroc, evaluation.pixel_auroc) if value is not None]
    return sum(values) / len(values)


def write_triptychs(scores: Scores, folder: Path, threshold: Threshold | None = None) -> None:
    """Write the reference's picture of every test image, `<its folder>_<its name>.png`; see `triptych`.

    Args:
        threshold: has no effect: outlined is what exceeds the threshold with the best pixel F1 on these
            images, the smallest where several have it.
    """
    if scores.anomaly_maps is None:
        return
    masks = [mask for _, _, mask in maps_with_masks(scores)]
    best = f1_max(scores.anomaly_maps, np.stack(masks))[1] if has_pixel_truth(scores.records) else None
    high = float(np.max(scores.anomaly_maps))
    names = picture_names(f"{record.image.parent.name}_{record.image.stem}" for record in scores.records)
    for name, record, anomaly_map, mask in zip(
        names, scores.records, scores.anomaly_maps, masks, strict=True
    ):
        height, width = anomaly_map.shape
        # Faithful: from the file and by Pillow's default filter, not as the network saw the image.
        image = scores.preprocess.original(record.image).resize(
            (width, height), PillowImage.Resampling.BICUBIC
        )
        picture = triptych(np.asarray(image), mask, anomaly_map, high=high, threshold=best)
        atomic_write(folder / name, png(picture))


def triptych(
    image: UInt8[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "height width"],
    anomaly_map: Float[np.ndarray, "height width"],
    *,
    high: float,
    threshold: float | None,
) -> UInt8[np.ndarray, "height triple_width 3"]:
    """Side by side: the image, its mask, and the image under the colours of its map.

    Colours (JET) go from 0 to `high`, the largest value of the category, so that they compare; image and
    colours are mixed in equal parts and scaled so that the largest value is 255. Pixels above the threshold
    are outlined in red, two pixels wide.
    """
    heat = reference_overlay(image, heat_map(anomaly_map, 0.0, high))
    if threshold is not None:
        heat[find_boundaries(anomaly_map > threshold, mode="thick")] = OUTLINE
    truth = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    return np.concatenate([image, truth, heat], axis=1)
