"""From a detector to numbers: the standard ones, and the paper's columns from the same scores."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from adcommon.evaluation.collect import Scores, collect_all
from adcommon.evaluation.maps import write_maps
from adcommon.evaluation.measure import masks_as_labels, measure, with_decision
from adcommon.io.cache import DiskCache
from adcommon.metrics import auroc
from adcommon.metrics.variants.rankings import mirrored_auroc
from adcommon.results.rows import row
from adcommon.types.records import Evaluation, Record, has_pixel_truth
from realnet.detector import RealNetDetector
from realnet.metrics import realnet_pro
from realnet.recipes import Recipe
from realnet.triptych import write_triptychs

Kind = Literal["panel", "triptych"]
"""Pictures of the shared package, and those of the paper."""


def evaluate(
    detector: RealNetDetector,
    tests: Mapping[str, Sequence[Record]],
    recipe: Recipe,
    *,
    cache: DiskCache | None = None,
    workers: int = 0,
    eval_size: str = "map",
    threshold: float | None = None,
    maps: Path | None = None,
    kind: Kind = "panel",
) -> list[Evaluation]:
    """Measure a detector on the test images of each category.

    Args:
        tests: test images by category.
        recipe: its protocol ("realnet" adds the paper's rows) and its test batch.
        eval_size: of the standard pixel metrics, see `adcommon.evaluation.measure`.
        threshold: decision threshold of the image score; its rates join the standard evaluation.
        maps: folder for a picture of every test image; None writes none.
        kind: of pictures.

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
        if recipe.protocol == "realnet":
            evaluations.append(paper_protocol(scores, standard, recipe))
        if maps is not None:
            folder = maps / category if len(tests) > 1 else maps
            if kind == "panel":
                write_maps(scores, folder, threshold)
            else:
                at_map_size = standard if eval_size == "map" else measure(scores, category=category)
                write_triptychs(scores, at_map_size, folder)
    return evaluations


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
    return replace(
        standard,
        protocol="realnet",
        normal=int((~labels).sum()),
        anomalous=int(labels.sum()),
        regions=None,
        image_auroc=area(scores.image_scores, labels),
        pixel_auroc=pixel,
        pixel_ap=None,
        pixel_f1max=None,
        pixel_threshold=None,
        aupro=None,
        aupro_05=None,
        extra=extra,
    )


def report_row(
    evaluation: Evaluation, recipe: Recipe, weights: str, seconds: float, selection: str = "last"
) -> dict[str, Any]:
    """An evaluation as a row of results.json.

    Args:
        weights: where the backbone's came from.
        seconds: wall time of training and evaluation.
        selection: "last", or "best-on-test" for the model that the paper's code keeps.
    """
    return row(
        evaluation,
        method="realnet",
        dataset=recipe.dataset,
        setting="one-class",
        backbone=recipe.backbone,
        weights=weights,
        seed=recipe.seed,
        seconds=seconds,
        selection=selection,
    )
