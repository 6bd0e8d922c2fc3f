"""From a detector to scores: every test image is scored once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from tqdm import tqdm

from adcommon.data.loading import AnomalyDataset, test_batches
from adcommon.data.preprocess import Preprocess
from adcommon.io.cache import DiskCache
from adcommon.types.prediction import Detector
from adcommon.types.records import Record, has_pixel_truth


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
