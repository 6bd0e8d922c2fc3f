"""From a detector to numbers: `collect` scores every test image once, `measure` has the standard metrics.

Several protocols may read the same `Scores`: a paper's own metrics live in its package.
"""

import csv
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped
from tqdm import tqdm

from adcommon.datasets.loading import AnomalyDataset, test_batches
from adcommon.disk_cache import DiskCache
from adcommon.files import atomic_write
from adcommon.gallery import ScoredImage, write_gallery
from adcommon.images import image_size, open_mask
from adcommon.loco import saturated_overlap
from adcommon.metrics import PixelMetrics, image_metrics
from adcommon.preprocess import Preprocess
from adcommon.protocol import Detector
from adcommon.records import Evaluation, Record, has_pixel_truth
from adcommon.saturation import find_config
from adcommon.visualise import panel, png

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scores:
    """What a detector said of the test images of one category; higher means more anomalous."""

    records: Sequence[Record]
    preprocess: Preprocess
    image_scores: Float[np.ndarray, " images"]
    anomaly_maps: Float[np.ndarray, "images height width"] | None
    """None: the method has no maps, or they were not kept."""

    @property
    def labels(self) -> Int64[np.ndarray, " images"]:
        """0 normal, 1 anomalous; from the folder, never from the mask."""
        return np.array([record.label for record in self.records], dtype=np.int64)


def collect(
    detector: Detector,
    dataset: AnomalyDataset,
    *,
    batch_size: int,
    workers: int = 0,
    keep_maps: bool = True,
) -> Scores:
    """Score every image of a dataset once, in order.

    Args:
        keep_maps: False saves their memory (4 bytes a pixel) where no pixel metric or picture is wanted.
    """
    image_scores = np.empty(len(dataset), dtype=np.float32)
    size = dataset.preprocess.size
    anomaly_maps = np.empty((len(dataset), size, size), dtype=np.float32) if keep_maps else None
    for batch in tqdm(
        test_batches(dataset, batch_size, workers), desc="scoring", unit="batch", disable=None, leave=False
    ):
        prediction = detector.score(batch.images)
        places = batch.indices.numpy()
        image_scores[places] = prediction.image_scores.cpu().numpy()
        if prediction.anomaly_maps is None:
            anomaly_maps = None
        elif anomaly_maps is not None:
            anomaly_maps[places] = prediction.anomaly_maps.cpu().numpy()
    return Scores(dataset.records, dataset.preprocess, image_scores, anomaly_maps)


def collect_all(
    detector: Detector,
    tests: Mapping[str, Sequence[Record]],
    *,
    batch_size: int,
    cache: DiskCache | None = None,
    workers: int = 0,
    keep_maps: bool = False,
) -> Iterator[tuple[str, Scores]]:
    """The scores of one category after the other, by name; one category's maps are in memory at a time.

    Args:
        tests: test images by category.
        keep_maps: also where there is no pixel truth, for pictures.
    """
    for category, records in tests.items():
        dataset = AnomalyDataset(records, detector.preprocess, cache)
        keep = keep_maps or has_pixel_truth(records)
        yield category, collect(detector, dataset, batch_size=batch_size, workers=workers, keep_maps=keep)


def measure(scores: Scores, *, category: str, eval_size: str = "map") -> Evaluation:
    """Every standard metric of one category.

    Pixel metrics pool all pixels of all test images; masks are resized with nearest neighbour. Where masks
    are the channels of MVTec LOCO AD, `extra` has its saturated overlap too, `spro`.

    Args:
        eval_size: "map": at the size of the anomaly maps; "original": maps are resized to each image's own
            size (bilinear) and masks stay as they are.
    """
    image = image_metrics(scores.image_scores, scores.labels)
    evaluation = Evaluation(
        category=category,
        normal=image.normal,
        anomalous=image.anomalous,
        image_auroc=image.auroc,
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
    height, width = scores.anomaly_maps.shape[1:]
    return replace(
        evaluation,
        regions=result.regions,
        pixel_auroc=result.auroc,
        pixel_ap=result.ap,
        pixel_f1max=result.f1max,
        pixel_threshold=result.threshold,
        aupro=result.aupro[0.3],
        aupro_05=result.aupro[0.05],
        map_size=f"{height}x{width}" if eval_size == "map" else eval_size,
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
            yield record, anomaly_map, preprocess.mask(record.mask, record.image)
            continue
        if record.mask is not None:
            mask = open_mask(record.mask)
        else:
            width, height = image_size(record.image)
            mask = np.zeros((height, width), dtype=bool)
        restored = preprocess.restore(torch.from_numpy(anomaly_map[None]), *mask.shape)
        yield record, restored[0].numpy(), mask


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


def write_maps(scores: Scores, folder: Path, threshold: float | None = None) -> None:
    """Write a panel per image, `<defect>/<image>.png`: image, truth, map, overlay; and two ways to read them.

    `index.html` shows the panels, to sort, filter and try thresholds on; `scores.csv` has a line per image.
    Colours compare within a category: the map's range is that of all its images.

    Args:
        threshold: decision threshold of the image score, shown beside it.
    """
    if scores.anomaly_maps is None:
        return
    low, high = float(scores.anomaly_maps.min()), float(scores.anomaly_maps.max())
    images = []
    for record, score, anomaly_map in zip(
        scores.records, scores.image_scores.tolist(), scores.anomaly_maps, strict=True
    ):
        image = scores.preprocess.pixels(record.image, record.mask)
        mask = None if record.mask is None else scores.preprocess.mask(record.mask, record.image)
        picture = panel(image, mask, anomaly_map, score=score, threshold=threshold, low=low, high=high)
        place = f"{record.defect}/{record.image.stem}.png"
        atomic_write(folder / place, png(picture))
        images.append(ScoredImage(f"{record.defect}/{record.image.name}", score, record.label > 0, place))
    atomic_write(folder / "scores.csv", _score_table(scores, threshold))
    title = f"{scores.records[0].category}: {len(images)} test images"
    write_gallery(folder, images, title=title, threshold=threshold)


def _score_table(scores: Scores, threshold: float | None) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["image", "category", "defect", "label", "score", "threshold", "decision"])
    for record, score in zip(scores.records, scores.image_scores.tolist(), strict=True):
        decision = "unknown" if threshold is None else "anomalous" if score > threshold else "normal"
        writer.writerow(
            [record.image, record.category, record.defect, record.label, score, threshold, decision]
        )
    return file.getvalue()
