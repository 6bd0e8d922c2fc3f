"""Evaluation: the standard metrics, and the paper's own protocol beside them.

The paper's protocol differs from the standard one in its masks (every pixel that a bilinear resize touches is
anomalous) and in AUPRO (each anomalous image alone, 200 thresholds, then the mean; it is usually higher).
Without pixel truth it reports F1 and accuracy at the threshold that is best on the test labels.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from adcommon.evaluation.collect import Scores
from adcommon.evaluation.evaluate import Pictures, Protocol
from adcommon.evaluation.maps import write_maps
from adcommon.io.files import atomic_write
from adcommon.metrics import PixelMetrics
from adcommon.results.picture_names import picture_names
from adcommon.results.pictures import heat_map, png, reference_overlay
from adcommon.types.facts import Facts
from adcommon.types.records import Evaluation, has_pixel_truth
from adcommon.types.threshold import Threshold
from recontrast.metrics import recontrast_aupro, recontrast_best_f1
from recontrast.recipes import Recipe


def facts(recipe: Recipe, weights: str) -> Facts:
    """Where a model of this recipe comes from.

    Args:
        weights: where the backbone's came from.
    """
    return Facts(
        method="recontrast",
        dataset=recipe.dataset,
        setting="multi-class" if recipe.multiclass else "one-class",
        backbone=recipe.backbone,
        weights=weights,
        seed=recipe.seed,
    )


def protocols(recipe: Recipe) -> list[Protocol]:
    """The paper's rows, if the recipe has them."""
    return [partial(paper_protocol, recipe=recipe)] if recipe.protocol == "recontrast" else []


def pictures(recipe: Recipe) -> list[Pictures]:
    """What is drawn of each category."""
    return [write_maps, *([write_reference_pictures] if recipe.protocol == "recontrast" else [])]


def paper_protocol(scores: Scores, standard: Evaluation, recipe: Recipe) -> Evaluation:
    """The paper's numbers from the same scores, labelled `recontrast`."""
    if scores.anomaly_maps is None or not has_pixel_truth(scores.records):
        best = recontrast_best_f1(scores.image_scores, scores.labels)
        return standard.under("recontrast", extra={"image_f1": best.f1, "image_accuracy": best.accuracy})
    preprocess = replace(scores.preprocess, mask_rule=recipe.mask_rule)
    masks = np.stack([preprocess.mask(record) for record in scores.records])
    names = [str(record.image) for record in scores.records]
    pixels = PixelMetrics()
    pixels.update(scores.anomaly_maps, masks, labels=scores.labels, names=names)
    result = pixels.compute(limits=())
    if recipe.map_protocol == "mean":  # the multi-class scripts report pixel AP and no AUPRO
        return standard.under("recontrast", pixel_auroc=result.auroc, pixel_ap=result.ap)
    # Faithful: the reference's thresholds are equal steps in float64; float32 steps move the value.
    maps = np.asarray(scores.anomaly_maps, dtype=np.float64)
    aupro = recontrast_aupro(maps, masks, names=names, labels=scores.labels)
    return standard.under("recontrast", pixel_auroc=result.auroc, aupro=aupro)


def write_reference_pictures(scores: Scores, folder: Path, threshold: Threshold | None = None) -> None:
    """Write what the authors' scripts draw of every test image.

    `<defect>_<image>_seg.png` is the map in JET colours, stretched per image; `..._cam.png` adds the image.
    """
    if scores.anomaly_maps is None:
        return
    names = picture_names((f"{record.defect}_{record.image.stem}" for record in scores.records), "")
    for record, name, anomaly_map in zip(scores.records, names, scores.anomaly_maps, strict=True):
        heat = heat_map(anomaly_map)
        image = scores.preprocess.pixels(record.image)
        atomic_write(folder / f"{name}_seg.png", png(heat))
        atomic_write(folder / f"{name}_cam.png", png(reference_overlay(image, heat)))
