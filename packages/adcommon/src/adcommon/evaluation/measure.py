"""From scores to numbers: the standard metrics.

Several protocols may read the same `Scores`: a paper's own metrics live in its package.
"""

import logging
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from adcommon.data.content import data_digest
from adcommon.data.loco import find_config
from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.loco import saturated_overlap
from adcommon.io.images import open_mask
from adcommon.metrics import PixelMetrics, PixelResult, auroc_interval, image_metrics
from adcommon.metrics.bounds import Bounded
from adcommon.metrics.streaming import StreamingResult
from adcommon.types.records import Evaluation, Record, has_pixel_truth

logger = logging.getLogger(__name__)

LIMITS = (0.3, 0.05)
"""False-positive rates up to which the standard AUPROs integrate."""


def measure(scores: Scores, *, category: str, eval_size: str = "map") -> Evaluation:
    """Every standard metric of one category.

    Pixel metrics pool all pixels of all test images; masks are resized with nearest neighbour. Where masks
    are the channels of MVTec LOCO AD, `extra` has its saturated overlap too, `spro`.

    Args:
        eval_size: "map": at the size of the anomaly maps; "original": maps are resized to each image's own
            size (bilinear) and masks stay as they are.
    """
    evaluation = of_images(scores, category)
    if scores.anomaly_maps is None or not has_pixel_truth(scores.records):
        return evaluation
    pixels = PixelMetrics()
    for record, anomaly_map, mask in maps_with_masks(scores, eval_size):
        pixels.update(anomaly_map[None], mask[None], labels=[record.label], names=[str(record.image)])
    config = find_config(scores.records)
    extra = {}
    if config is not None:
        scored = zip(scores.records, scores.anomaly_maps, strict=True)
        extra = saturated_overlap(scored, scores.preprocess, config, eval_size)
    shapes = {anomaly_map.shape for anomaly_map in scores.anomaly_maps}
    measured = with_pixels(evaluation, pixels.compute(LIMITS), shapes, eval_size)
    return replace(measured, extra=extra)


def of_images(scores: Scores, category: str) -> Evaluation:
    """Every standard metric of the image scores of one category."""
    image = image_metrics(scores.image_scores, scores.labels)
    low, high = auroc_interval(scores.image_scores, scores.labels) or (None, None)
    return Evaluation(
        category=category,
        normal=image.normal,
        anomalous=image.anomalous,
        image_auroc=image.auroc,
        image_auroc_low=low,
        image_auroc_high=high,
        image_ap=image.ap,
        image_f1max=image.f1max,
        image_threshold=image.threshold,
        data=data_digest(scores.records),
    )


def with_pixels(
    evaluation: Evaluation,
    result: PixelResult | StreamingResult,
    shapes: Collection[tuple[int, ...]],
    eval_size: str,
) -> Evaluation:
    """The evaluation, and the standard metrics of pixels at `LIMITS`, with the bounds of those that have any.

    Args:
        shapes: that the anomaly maps have.
    """
    sizes = [f"{height}x{width}" for height, width in shapes]
    found = {
        "pixel_auroc": result.auroc,
        "pixel_ap": result.ap,
        "pixel_f1max": result.f1max,
        "aupro": result.aupro[0.3],
        "aupro_05": result.aupro[0.05],
    }
    bounded = {name: value for name, value in found.items() if isinstance(value, Bounded)}
    values: dict[str, Any] = found | {name: value.value for name, value in bounded.items()}
    return replace(
        evaluation,
        regions=result.regions,
        pixel_threshold=result.threshold,
        map_size=(sizes[0] if len(sizes) == 1 else "several") if eval_size == "map" else eval_size,
        certified={name: (each.low, each.high) for name, each in bounded.items() if each.low == each.low},
        **values,
    )


def with_decision(evaluation: Evaluation, scores: Scores, threshold: float) -> Evaluation:
    """The evaluation, and in `extra` what the stored decision threshold does on the test images.

    `detection_rate` is the share of anomalous images above it, `false_alarm_rate` that of normal ones.
    """
    above = scores.image_scores > threshold
    rates = {"detection_rate": 1, "false_alarm_rate": 0}
    extra = {
        name: float(above[scores.labels == label].mean())
        for name, label in rates.items()
        if (scores.labels == label).any()
    }
    return replace(evaluation, extra=evaluation.extra | extra)


def maps_with_masks(
    scores: Scores, eval_size: str = "map"
) -> Iterator[tuple[Record, Shaped[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]]:
    """Each image's record, anomaly map and mask at the evaluation size, one at a time."""
    if scores.anomaly_maps is None:
        return
    for record, anomaly_map in zip(scores.records, scores.anomaly_maps, strict=True):
        yield record, *with_mask(record, anomaly_map, scores.preprocess, eval_size)


def with_mask(
    record: Record, anomaly_map: Shaped[np.ndarray, "_ _"], preprocess: Preprocess, eval_size: str
) -> tuple[Shaped[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """The anomaly map and the mask of an image at the evaluation size, see `measure`."""
    if eval_size == "map":
        return anomaly_map, replace(preprocess, mask_rule="nearest").mask(record)
    if record.mask is not None:
        mask = preprocess.as_loaded(open_mask(record.mask), record)
    else:
        width, height = preprocess.size_of(record.image)
        mask = np.zeros((height, width), dtype=bool)
    return preprocess.restore(anomaly_map, *mask.shape), mask


def masks_as_labels(
    scores: Scores, category: str
) -> tuple[Bool[np.ndarray, "images height width"], Bool[np.ndarray, " images"]]:
    """The masks at the size of the maps, and which images have an anomalous pixel: the labels of some papers.

    A thin defect may vanish when its mask is resized; a warning says how many did.
    """
    masks = np.stack([mask for _, _, mask in maps_with_masks(scores)])
    by_mask = masks.reshape(len(masks), -1).max(axis=1)
    vanished = np.count_nonzero(by_mask != (scores.labels > 0))
    if vanished:
        logger.warning(
            "category %s: %d anomalous images have an empty mask at %d pixels and count as normal in the "
            "paper's columns; the standard row goes by the folder",
            category,
            vanished,
            masks.shape[1],
        )
    return masks, by_mask
