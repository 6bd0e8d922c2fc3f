"""Evaluation: the paper's columns beside the standard metrics, its pictures, its choice of a best model."""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from adcommon.data.loading import AnomalyDataset, test_batches
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.evaluate import Pictures, Protocol
from adcommon.evaluation.maps import write_maps
from adcommon.evaluation.measure import maps_with_masks, masks_as_labels
from adcommon.io.files import atomic_write
from adcommon.metrics import auroc
from adcommon.metrics.variants.rankings import mirrored_auroc
from adcommon.results.picture_names import names_of
from adcommon.results.pictures import png
from adcommon.types.facts import Facts
from adcommon.types.records import Evaluation, Record, has_pixel_truth
from adcommon.types.threshold import Threshold
from uniad.detector import UniADDetector
from uniad.pictures.drawing import compound, single
from uniad.recipes import Recipe

Kind = Literal["panel", "compound", "single"]
"""Pictures of the shared package, and the two of the reference."""


def facts(recipe: Recipe, weights: str) -> Facts:
    """Where a model of this recipe comes from.

    Args:
        weights: where the backbone's came from.
    """
    return Facts(
        method="uniad",
        dataset=recipe.dataset,
        setting="multi-class" if recipe.multiclass else "one-class",
        backbone=recipe.backbone,
        weights=weights,
        seed=recipe.seed,
    )


def protocols(recipe: Recipe) -> list[Protocol]:
    """The paper's rows, if the recipe has them."""
    return [partial(paper_protocol, recipe=recipe)] if recipe.protocol == "uniad" else []


def pictures(kind: Kind) -> list[Pictures]:
    """What is drawn of each category."""
    return [write_maps if kind == "panel" else partial(write_reference_pictures, kind=kind)]


def paper_protocol(scores: Scores, standard: Evaluation, recipe: Recipe) -> Evaluation:
    """The paper's columns, labelled `uniad`: `max`, `mean`, `std` and `pixel`, each an AUROC.

    The paper's own for MVTec AD is `max`, for CIFAR-10 `mean`. As in the reference an image counts as
    anomalous if its resized mask is not empty, whatever its folder; where there are no masks, by its folder.
    """
    area = mirrored_auroc if recipe.reference_auroc else auroc
    labels, pixel = scores.labels > 0, None
    if scores.anomaly_maps is not None and has_pixel_truth(scores.records):
        masks, labels = masks_as_labels(scores, standard.category)
        pixel = area(scores.anomaly_maps, masks)
    columns = {f"{name}_auroc": area(column, labels) for name, column in scores.extra_scores.items()}
    return standard.under(
        "uniad",
        image_auroc=columns[f"{recipe.image_score}_auroc"],
        pixel_auroc=pixel,
        labels=labels.tolist(),
        extra=columns,
    )


class Best:
    """The best result on the test images so far.

    The paper's code chooses a "best" checkpoint by it, an oracle, which is kept beside the last one; the last
    one is what is reported.
    """

    def __init__(self) -> None:
        """Nothing was measured yet."""
        self.value = -1.0

    def takes(self, evaluations: Sequence[Evaluation]) -> bool:
        """True if these are at least as good, which makes them the best so far."""
        value = key_metric(evaluations)
        if value is None or not value >= self.value:  # NaN is never the best
            return False
        self.value = value
        return True

    def state_dict(self) -> dict[str, float]:
        """For the resume state."""
        return {"best": self.value}

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        """Take back what `state_dict` gave."""
        self.value = state_dict["best"]


def key_metric(evaluations: Sequence[Evaluation]) -> float | None:
    """What the reference chooses its best checkpoint by: mean pixel AUROC, or image AUROC without pixels."""
    for metric in ("pixel_auroc", "image_auroc"):
        values = [getattr(evaluation, metric) for evaluation in evaluations]
        if values and all(value is not None for value in values):
            return sum(values) / len(values)
    return None


def write_reference_pictures(
    scores: Scores, folder: Path, threshold: Threshold | None = None, *, kind: Kind
) -> None:
    """Write `<defect>/<image>.png` at each image's own size, see `compound` and `single`.

    Colours compare between images: their range is that of all maps.
    """
    if scores.anomaly_maps is None:
        return
    low, high = float(np.min(scores.anomaly_maps)), float(np.max(scores.anomaly_maps))
    names = names_of(scores.records)
    for name, (record, anomaly_map, mask) in zip(names, maps_with_masks(scores), strict=True):
        image = np.asarray(scores.preprocess.original(record.image))
        if kind == "single":
            picture = single(image, anomaly_map, low=low, high=high)
        else:
            truth = mask if record.label else None
            picture = compound(image, truth, anomaly_map, low=low, high=high)
        atomic_write(folder / name, png(picture))


def save_features(
    detector: UniADDetector, tests: Mapping[str, Sequence[Record]], folder: Path, *, batch_size: int
) -> None:
    """Write what the transformer rebuilds of each test image, `<category>/<defect>/<image>.npy`.

    Each file holds float32 numbers of shape (channels, grid height, grid width); `uniad-vis-recon` makes
    pictures of them.
    """
    for category, records in tests.items():
        dataset = AnomalyDataset(records, detector.preprocess)
        names = names_of(records, ".npy")
        for batch in test_batches(dataset, batch_size):
            with torch.inference_mode():
                rebuilt = detector.model.rebuilt(batch.images.to(detector.device)).cpu().numpy()
            for index, features in zip(batch.indices.tolist(), rebuilt, strict=True):
                file = io.BytesIO()
                np.save(file, features)
                atomic_write(folder / category / names[index], file.getvalue())
