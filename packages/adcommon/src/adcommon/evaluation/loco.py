"""MVTec LOCO AD's own metric on collected scores: saturated overlap, by group of anomalies."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped

from adcommon.data.loco import channel_value, group_of, read_saturations
from adcommon.data.preprocess import Preprocess
from adcommon.io.images import list_images, mask_values
from adcommon.metrics.spro import LocoMetrics
from adcommon.types.records import Record

logger = logging.getLogger(__name__)

SPRO_LIMIT = 0.05
"""False-positive rate up to which the benchmark's headline integrates."""


def saturated_overlap(
    scored: Iterable[tuple[Record, Shaped[np.ndarray, "height width"]]],
    preprocess: Preprocess,
    config: Path,
    eval_size: str,
) -> dict[str, float]:
    """`spro`, the mean of `spro_structural` and `spro_logical`: areas under the sPRO curve up to 5 %.

    Args:
        scored: test images of one category with their anomaly maps.
        preprocess: what the maps' images were made with.
        config: the category's defects_config.json.
        eval_size: "original" as the benchmark; "map": channels are resized to the maps with nearest
            neighbour, and absolute thresholds in proportion.
    """
    metrics = LocoMetrics(read_saturations(config))
    vanished = 0
    for record, anomaly_map in scored:
        group = group_of(record)
        if group is None:
            logger.warning("sPRO leaves out an image of neither group: %s", record.image)
            continue
        width, height = preprocess.size_of(record.image)
        if eval_size == "original":
            anomaly_map = preprocess.restore(anomaly_map, height, width)
        channels = _channels(record, preprocess, eval_size, anomaly_map.shape)
        kept = channels[channels.any(axis=(1, 2))]
        vanished += len(channels) - len(kept)
        if group == "good" or len(kept):
            scale = anomaly_map.size / (width * height)
            metrics.update(anomaly_map, kept, group, name=str(record.image), scale=scale)
    if vanished:
        logger.warning("sPRO leaves out %d channels that have no pixel at the size of the maps", vanished)
    result = metrics.compute(limits=(SPRO_LIMIT,))
    return {
        "spro": result.mean.auspro[SPRO_LIMIT],
        "spro_structural": result.structural.auspro[SPRO_LIMIT],
        "spro_logical": result.logical.auspro[SPRO_LIMIT],
    }


def _channels(
    record: Record, preprocess: Preprocess, eval_size: str, shape: tuple[int, ...]
) -> Integer[np.ndarray, "channels height width"]:
    """The channels of an image, zero but for the value of their defect; none of a normal image."""
    files = [] if record.mask is None or record.label == 0 else list_images(record.mask)
    if eval_size == "original":
        channels = [preprocess.as_loaded(mask_values(file), record) for file in files]
    else:
        nearest = replace(preprocess, mask_rule="nearest")
        channels = [
            nearest.mask(replace(record, mask=file)) * np.int64(channel_value(file)) for file in files
        ]
    return np.stack(channels) if channels else np.zeros((0, *shape), dtype=np.int64)
