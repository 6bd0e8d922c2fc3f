"""From scores to numbers: the standard metrics.

Several protocols may read the same `Scores`: a paper's own metrics live in its package.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Shaped

from adcommon.data.loco import find_config
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.loco import saturated_overlap
from adcommon.io.images import open_mask
from adcommon.metrics import PixelMetrics, auroc_interval, image_metrics
from adcommon.types.records import Evaluation, Record, has_pixel_truth

logger = logging.getLogger(__name__)


def measure(scores: Scores, *, category: str, eval_size: str = "map") -> Evaluation:
    """Every standard metric of one category.

    Pixel metrics pool all pixels of all test images; masks are resized with nearest neighbour. Where masks
    are the channels of MVTec LOCO AD, `extra` has its saturated overlap too, `spro`.

    Args:
        eval_size: "map": at the size of the anomaly maps; "original": maps are resized to each image's own
            size (bilinear) and masks stay as they are.
    """
    image = image_metrics(scores.image_scores, scores.labels)
    low, high = auroc_interval(scores.image_scores, scores.labels) or (None, None)
    evaluation = Evaluation(
        category=category,
        normal=image.normal,
        anomalous=image.anomalous,
        image_auroc=image.auroc,
        image_auroc_low=low,
        image_auroc_high=high,
        image_ap=image.ap,
        image_f1max=image.f1max,
        image_threshold=image.threshold,
    )
    if scores.anomaly_maps is None or not has_pixel_truth(scores.records):
        return evaluation
    pixels = PixelMetrics()
    for record, anomaly_map, mask in maps_with_masks(scores, eval_size):
        pixels.update(anomaly_map[None], mask[None], labels=[record.label], names=[str(record.image)])
    result = pixels.compute(limits=(0.3, 0.05))
    config = find_config(scores.records)
    extra = {}
    if config is not None:
        scored = zip(scores.records, scores.anomaly_maps, strict=True)
        extra = saturated_overlap(scored, scores.preprocess, config, eval_size)
    sizes = {f"{height}x{width}" for height, width in map(np.shape, scores.anomaly_maps)}
    return replace(
        evaluation,
        regions=result.regions,
        pixel_auroc=result.auroc,
        pixel_ap=result.ap,
        pixel_f1max=result.f1max,
        pixel_threshold=result.threshold,
        aupro=result.aupro[0.3],
        aupro_05=result.aupro[0.05],
        map_size=(sizes.pop() if len(sizes) == 1 else "several") if eval_size == "map" else eval_size,
        extra=extra,
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
    preprocess = replace(scores.preprocess, mask_rule="nearest")
    for record, anomaly_map in zip(scores.records, scores.anomaly_maps, strict=True):
        if eval_size == "map":
            yield record, anomaly_map, preprocess.mask(record)
            continue
        if record.mask is not None:
            mask = preprocess.as_loaded(open_mask(record.mask), record)
        else:
            width, height = preprocess.size_of(record.image)
            mask = np.zeros((height, width), dtype=bool)
        yield record, preprocess.restore(anomaly_map[None], *mask.shape)[0], mask


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
