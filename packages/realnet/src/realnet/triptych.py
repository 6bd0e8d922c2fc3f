"""The reference's pictures of test images: image | truth | anomaly map with an outline at a threshold."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image as PillowImage
from skimage.segmentation import find_boundaries

from adcommon.evaluation.collect import Scores
from adcommon.evaluation.measure import maps_with_masks
from adcommon.io.files import atomic_write
from adcommon.io.images import open_image
from adcommon.results.pictures import heat_map, png, reference_overlay
from adcommon.types.records import Evaluation, Record

OUTLINE = (255, 0, 0)


def triptych(
    image: UInt8[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "height width"],
    anomaly_map: Float[np.ndarray, "height width"],
    *,
    high: float,
    threshold: float | None,
) -> UInt8[np.ndarray, "height triple_width 3"]:
    """Side by side: the image, its mask, and the image under the colours of its map.

    Colours (JET) go from 0 to `high`; image and colours are mixed in equal parts and scaled so that the
    largest value is 255.

    Args:
        high: the largest value of all maps of the category, so that colours compare.
        threshold: pixels above it are outlined in red, two pixels wide; None outlines nothing.
    """
    heat = reference_overlay(image, heat_map(anomaly_map, 0.0, high))
    if threshold is not None:
        heat[find_boundaries(anomaly_map > threshold, mode="thick")] = OUTLINE
    truth = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    return np.concatenate([image, truth, heat], axis=1)


def write_triptychs(scores: Scores, evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write a picture of every test image, `<its folder>_<its name>.png`, and return the files.

    Args:
        scores: of one category.
        evaluation: of the same scores at the maps' size; its pixel threshold is the one outlined, which has
            the best pixel F1, the smallest where several have it.
    """
    if scores.anomaly_maps is None:
        return []
    high, written = float(scores.anomaly_maps.max()), []
    names = _names(scores.records)
    for name, (record, anomaly_map, mask) in zip(names, maps_with_masks(scores), strict=True):
        height, width = anomaly_map.shape
        # Faithful: from the file and by Pillow's default filter, not as the network saw the image.
        image = open_image(record.image).resize((width, height), PillowImage.Resampling.BICUBIC)
        picture = triptych(
            np.asarray(image), mask, anomaly_map, high=high, threshold=evaluation.pixel_threshold
        )
        written.append(folder / name)
        atomic_write(written[-1], png(picture))
    return written


def _names(records: Sequence[Record]) -> list[str]:
    """A file name for each record; numbered where two images have the same."""
    stems = [f"{record.image.parent.name}_{record.image.stem}" for record in records]
    count = Counter(stems)
    return [f"{stem}.png" if count[stem] == 1 else f"{stem}_{n}.png" for n, stem in enumerate(stems)]
