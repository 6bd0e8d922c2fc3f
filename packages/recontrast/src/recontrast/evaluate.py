"""Evaluation: the standard metrics, and the paper's own protocol beside them.

The paper's protocol differs from the standard one in its masks (every pixel that a bilinear resize touches is
anomalous) and in AUPRO (each anomalous image alone, 200 thresholds, then the mean; it is usually higher).
Without pixel truth it reports F1 and accuracy at the threshold that is best on the test labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adcommon.evaluation.collect import Scores, collect_all
from adcommon.evaluation.maps import write_maps
from adcommon.evaluation.measure import measure, with_decision
from adcommon.io.cache import DiskCache
from adcommon.io.files import atomic_write
from adcommon.metrics import PixelMetrics
from adcommon.results.pictures import heat_map, png, reference_overlay
from adcommon.results.rows import row
from adcommon.types.records import Evaluation, Record, has_pixel_truth
from recontrast.detector import ReContrastDetector
from recontrast.metrics import recontrast_aupro, recontrast_best_f1
from recontrast.recipes import Recipe


def evaluate(
    detector: ReContrastDetector,
    tests: Mapping[str, Sequence[Record]],
    recipe: Recipe,
    *,
    cache: DiskCache | None = None,
    workers: int = 0,
    eval_size: str = "map",
    threshold: float | None = None,
    maps: Path | None = None,
) -> list[Evaluation]:
    """Measure a detector on the test images of each category.

    Args:
        tests: test images by category.
        recipe: its protocol ("recontrast" adds the paper's rows) and its test batch.
        eval_size: of the standard pixel metrics, see `adcommon.evaluation.measure`.
        threshold: decision threshold of the image score; its rates join the standard evaluation.
        maps: folder for a picture of every test image; None writes none.

    Returns:
        Per category the standard evaluation, followed by the paper's if the recipe has it.
    """
    evaluations = []
    for category, scores in collect_all(
        detector,
        tests,
        batch_size=recipe.test_batch_size,
        cache=cache,
        workers=workers,
        keep_maps=maps is not None,
    ):
        standard = measure(scores, category=category, eval_size=eval_size)
        evaluations.append(standard if threshold is None else with_decision(standard, scores, threshold))
        if recipe.protocol == "recontrast":
            evaluations.append(paper_protocol(scores, standard, recipe))
        if maps is not None:
            folder = maps / category if len(tests) > 1 else maps
            write_maps(scores, folder, threshold)
            if recipe.protocol == "recontrast":
                write_reference_pictures(scores, folder)
    return evaluations


def report_row(evaluation: Evaluation, recipe: Recipe, weights: str, seconds: float) -> dict[str, Any]:
    """An evaluation as a row of results.json.

    Args:
        weights: where the backbone's came from.
        seconds: wall time of training and evaluation.
    """
    return row(
        evaluation,
        method="recontrast",
        dataset=recipe.dataset,
        setting="multi-class" if recipe.multiclass else "one-class",
        backbone=recipe.backbone,
        weights=weights,
        seed=recipe.seed,
        seconds=seconds,
    )


def paper_protocol(scores: Scores, standard: Evaluation, recipe: Recipe) -> Evaluation:
    """The paper's numbers from the same scores, labelled `recontrast`."""
    paper = replace(
        standard,
        protocol="recontrast",
        regions=None,
        pixel_auroc=None,
        pixel_ap=None,
        pixel_f1max=None,
        pixel_threshold=None,
        aupro=None,
        aupro_05=None,
    )
    if scores.anomaly_maps is None or not has_pixel_truth(scores.records):
        best = recontrast_best_f1(scores.image_scores, scores.labels)
        return replace(paper, extra={"image_f1": best.f1, "image_accuracy": best.accuracy})
    preprocess = replace(scores.preprocess, mask_rule=recipe.mask_rule)
    masks = np.stack([preprocess.mask(record.mask, record.image) for record in scores.records])
    names = [str(record.image) for record in scores.records]
    pixels = PixelMetrics()
    pixels.update(scores.anomaly_maps, masks, labels=scores.labels, names=names)
    result = pixels.compute(limits=())
    if recipe.map_protocol == "mean":  # the multi-class scripts report pixel AP and no AUPRO
        return replace(paper, pixel_auroc=result.auroc, pixel_ap=result.ap)
    # Faithful: the reference's thresholds are equal steps in float64; float32 steps move the value.
    maps = scores.anomaly_maps.astype(np.float64)
    aupro = recontrast_aupro(maps, masks, names=names, labels=scores.labels)
    return replace(paper, pixel_auroc=result.auroc, aupro=aupro)


def write_reference_pictures(scores: Scores, folder: Path) -> None:
    """Write what the authors' scripts draw of every test image.

    `<defect>_<image>_seg.png` is the map in JET colours, stretched per image; `..._cam.png` adds the image.
    """
    if scores.anomaly_maps is None:
        return
    for record, anomaly_map in zip(scores.records, scores.anomaly_maps, strict=True):
        heat = heat_map(anomaly_map)
        image = scores.preprocess.pixels(record.image, record.mask)
        name = f"{record.defect}_{record.image.stem}"
        atomic_write(folder / f"{name}_seg.png", png(heat))
        atomic_write(folder / f"{name}_cam.png", png(reference_overlay(image, heat)))
