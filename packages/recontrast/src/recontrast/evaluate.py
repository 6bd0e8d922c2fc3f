"""Evaluation: the standard metrics, and the paper's own protocol beside them (section 4.1).

The paper's protocol differs from the standard one in its masks (every pixel that a bilinear resize touches is
anomalous) and in AUPRO (each anomalous image alone, 200 thresholds, then the mean; it is usually higher).
Without pixel truth it reports F1 and accuracy at the threshold that is best on the test labels.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from adcommon.datasets.loading import AnomalyDataset
from adcommon.disk_cache import DiskCache
from adcommon.evaluation import Scores, collect, has_pixel_truth, measure
from adcommon.metrics import PixelMetrics
from adcommon.metrics.reference import recontrast as reference
from adcommon.records import Evaluation, Record

from recontrast.detector import ReContrastDetector
from recontrast.recipes import Recipe

logger = logging.getLogger(__name__)


def evaluate(
    detector: ReContrastDetector,
    tests: Mapping[str, Sequence[Record]],
    recipe: Recipe,
    *,
    device: torch.device | str,
    cache: DiskCache | None = None,
    workers: int = 0,
    eval_size: str = "map",
    maps: Path | None = None,
) -> list[Evaluation]:
    """Measure a detector on the test images of each category.

    Args:
        tests: test images by category.
        recipe: its protocol ("recontrast" adds the paper's rows) and its test batch.
        eval_size: of the standard pixel metrics, see `adcommon.evaluation.measure`.
        maps: folder for a picture of every test image; None writes none.

    Returns:
        Per category the standard evaluation, followed by the paper's if the recipe has it.
    """
    evaluations = []
    for category, records in tests.items():
        dataset = AnomalyDataset(records, detector.preprocess, cache)
        scores = collect(
            detector,
            dataset,
            batch_size=recipe.test_batch_size,
            device=device,
            workers=workers,
            keep_maps=maps is not None or has_pixel_truth(records),
        )
        evaluations.append(measure(scores, category=category, eval_size=eval_size))
        if recipe.protocol == "recontrast":
            evaluations.append(paper_protocol(scores, evaluations[-1], recipe))
        if maps is not None:
            write_maps(scores, dataset, maps / category if len(tests) > 1 else maps)
    return evaluations


def paper_protocol(scores: Scores, standard: Evaluation, recipe: Recipe) -> Evaluation:
    """The paper's numbers from the same scores, labelled `recontrast`."""
    paper = replace(
        standard,
        protocol="recontrast",
        regions=None,
        pixel_f1max=None,
        pixel_threshold=None,
        aupro=None,
        aupro_05=None,
    )
    if scores.anomaly_maps is None or not has_pixel_truth(scores.records):
        decision = reference.best_f1(scores.image_scores, scores.labels)
        return replace(paper, extra={"image_f1": decision.f1, "image_accuracy": decision.accuracy})
    grown = replace(scores.preprocess, mask_rule="any")
    masks = np.stack([grown.mask(record.mask, record.image) for record in scores.records])
    pixels = PixelMetrics()
    pixels.update(scores.anomaly_maps, masks)
    result = pixels.compute(limits=())
    if recipe.map_protocol == "mean":  # the multi-class scripts report pixel AP and no AUPRO
        return replace(paper, pixel_auroc=result.auroc, pixel_ap=result.ap)
    anomalous = scores.labels == 1
    aupro = reference.aupro_per_image(scores.anomaly_maps[anomalous], masks[anomalous])
    return replace(paper, pixel_auroc=result.auroc, pixel_ap=None, aupro=aupro)
