"""From a detector to numbers: the standard ones, and the paper's columns from the same scores."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from adcommon.data.loading import AnomalyDataset, test_batches
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.maps import write_maps
from adcommon.evaluation.measure import maps_with_masks, masks_as_labels, measure, with_decision
from adcommon.io.cache import DiskCache
from adcommon.io.files import atomic_write
from adcommon.io.images import open_image
from adcommon.metrics import auroc
from adcommon.metrics.variants.rankings import mirrored_auroc
from adcommon.models.feature_store import FeatureStore
from adcommon.results.pictures import png
from adcommon.results.rows import row
from adcommon.types.prediction import Prediction
from adcommon.types.records import Evaluation, Record, has_pixel_truth
from uniad.detector import UniADDetector, image_scores
from uniad.pictures.drawing import compound, single
from uniad.recipes import Recipe

Columns = dict[str, Float[np.ndarray, " images"]]
"""Image scores by the paper's names of them: max, mean, std."""
Kind = Literal["panel", "compound", "single"]
"""Pictures of the shared package, and the two of the reference."""


def evaluate(
    detector: UniADDetector,
    tests: Mapping[str, Sequence[Record]],
    recipe: Recipe,
    *,
    cache: DiskCache | None = None,
    workers: int = 0,
    eval_size: str = "map",
    threshold: float | None = None,
    maps: Path | None = None,
    kind: Kind = "panel",
    stores: Mapping[str, FeatureStore] | None = None,
) -> list[Evaluation]:
    """Measure a detector on the test images of each category.

    Args:
        tests: test images by category.
        recipe: its protocol ("uniad" adds the paper's rows) and its test batch.
        eval_size: of the standard pixel metrics, see `adcommon.evaluation.measure`.
        threshold: decision threshold of the image score; its rates join the standard evaluation.
        maps: folder for a picture of every test image; None writes none.
        kind: of pictures.
        stores: features of the test images by category, where they are kept.

    Returns:
        Per category the standard evaluation, followed by the paper's if the recipe has it.
    """
    evaluations = []
    for category, records in tests.items():
        dataset = AnomalyDataset(records, detector.preprocess, cache)
        scores, columns = collect(
            detector,
            dataset,
            batch_size=recipe.test_batch_size,
            workers=workers,
            keep_maps=maps is not None or has_pixel_truth(records),
            store=None if stores is None else stores[category],
        )
        standard = measure(scores, category=category, eval_size=eval_size)
        evaluations.append(standard if threshold is None else with_decision(standard, scores, threshold))
        if recipe.protocol == "uniad":
            evaluations.append(paper_protocol(scores, columns, standard, recipe))
        if maps is not None:
            folder = maps / category if len(tests) > 1 else maps
            if kind == "panel":
                write_maps(scores, folder, threshold)
            else:
                write_reference_pictures(scores, folder, kind)
    return evaluations


def collect(
    detector: UniADDetector,
    dataset: AnomalyDataset,
    *,
    batch_size: int,
    workers: int = 0,
    keep_maps: bool = True,
    store: FeatureStore | None = None,
) -> tuple[Scores, Columns]:
    """Score every image of a dataset once, in order, by all three image scores of the paper.

    Args:
        keep_maps: False saves their memory where no pixel metric or picture is wanted.
        store: the images' features; None: computed here.
    """
    size, count = dataset.preprocess.size, len(dataset)
    reductions = image_scores(detector.pool)
    columns = {name: np.empty(count, dtype=np.float32) for name in reductions}
    anomaly_maps = np.empty((count, size, size), dtype=np.float32) if keep_maps else None
    for places, prediction in _predictions(detector, dataset, batch_size, workers, store):
        maps = prediction.anomaly_maps
        assert maps is not None  # this detector always has maps
        for name, reduce in reductions.items():
            columns[name][places] = reduce(maps).cpu().numpy()
        if anomaly_maps is not None:
            anomaly_maps[places] = maps.cpu().numpy()
    scores = Scores(dataset.records, dataset.preprocess, columns[detector.image_score], anomaly_maps)
    return scores, columns


def _predictions(
    detector: UniADDetector,
    dataset: AnomalyDataset,
    batch_size: int,
    workers: int,
    store: FeatureStore | None,
) -> Iterator[tuple[np.ndarray, Prediction]]:
    """Positions in the dataset, and what the detector says of the images there."""
    side, count = dataset.preprocess.size, len(dataset)
    bar = tqdm(total=count, desc="scoring", unit="image", disable=None, leave=False)
    if store is None:
        for batch in test_batches(dataset, batch_size, workers):
            yield batch.indices.numpy(), detector.score(batch.images)
            bar.update(len(batch.indices))
    else:
        for first in range(0, count, batch_size):
            places = np.arange(first, min(first + batch_size, count))
            features = store.batch(places.tolist())[0].to(detector.device)
            yield places, detector.score_features(features, (side, side))
            bar.update(len(places))
    bar.close()


def paper_protocol(scores: Scores, columns: Columns, standard: Evaluation, recipe: Recipe) -> Evaluation:
    """The paper's columns, labelled `uniad`: `max`, `mean`, `std` and `pixel`, each an AUROC.

    The paper's own for MVTec AD is `max`, for CIFAR-10 `mean`. As in the reference an image counts as
    anomalous if its resized mask is not empty, whatever its folder; where there are no masks, by its folder.
    """
    area = mirrored_auroc if recipe.reference_auroc else auroc
    labels = scores.labels > 0
    pixel = None
    if scores.anomaly_maps is not None and has_pixel_truth(scores.records):
        masks, labels = masks_as_labels(scores, standard.category)
        pixel = area(scores.anomaly_maps, masks)
    image = {name: area(column, labels) for name, column in columns.items()}
    return replace(
        standard,
        protocol="uniad",
        normal=int((~labels).sum()),
        anomalous=int(labels.sum()),
        regions=None,
        image_auroc=image[recipe.image_score],
        pixel_auroc=pixel,
        pixel_ap=None,
        pixel_f1max=None,
        pixel_threshold=None,
        aupro=None,
        aupro_05=None,
        extra={f"{name}_auroc": value for name, value in image.items()},
    )


def report_row(evaluation: Evaluation, recipe: Recipe, weights: str, seconds: float) -> dict[str, Any]:
    """An evaluation as a row of results.json.

    Args:
        weights: where the backbone's came from.
        seconds: wall time of training and evaluation.
    """
    return row(
        evaluation,
        method="uniad",
        dataset=recipe.dataset,
        setting="multi-class" if recipe.multiclass else "one-class",
        backbone=recipe.backbone,
        weights=weights,
        seed=recipe.seed,
        seconds=seconds,
    )


def write_reference_pictures(scores: Scores, folder: Path, kind: Kind) -> None:
    """Write `<defect>/<image>.png` at each image's own size, see `compound` and `single`.

    Colours compare between images: their range is that of all maps.
    """
    if scores.anomaly_maps is None:
        return
    low, high = float(scores.anomaly_maps.min()), float(scores.anomaly_maps.max())
    for record, anomaly_map, mask in maps_with_masks(scores):
        image = np.asarray(open_image(record.image, upright=scores.preprocess.upright))
        if kind == "single":
            picture = single(image, anomaly_map, low=low, high=high)
        else:
            truth = mask if record.label else None
            picture = compound(image, truth, anomaly_map, low=low, high=high)
        atomic_write(folder / record.defect / f"{record.image.stem}.png", png(picture))


def save_features(
    detector: UniADDetector, tests: Mapping[str, Sequence[Record]], folder: Path, *, batch_size: int
) -> None:
    """Write what the transformer rebuilds of each test image, `<category>/<defect>/<image>.npy`.

    Each file holds float32 numbers of shape (channels, grid height, grid width); `uniad-vis-recon` makes
    pictures of them.
    """
    for category, records in tests.items():
        dataset = AnomalyDataset(records, detector.preprocess)
        for batch in test_batches(dataset, batch_size):
            with torch.inference_mode():
                rebuilt = detector.model(batch.images.to(detector.device)).rebuilt.cpu().numpy()
            for index, features in zip(batch.indices.tolist(), rebuilt, strict=True):
                record = records[index]
                file = io.BytesIO()
                np.save(file, features)
                path = folder / category / record.defect / f"{record.image.stem}.npy"
                atomic_write(path, file.getvalue())
