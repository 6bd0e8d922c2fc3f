"""From a detector to scores: every test image is scored once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from adcommon.data.loading import AnomalyDataset, test_batches
from adcommon.data.preprocess import Preprocess
from adcommon.models.feature_store import FeatureStore
from adcommon.types.prediction import Detector, Prediction
from adcommon.types.records import Record


@dataclass(frozen=True, slots=True)
class Scores:
    """What a detector said of the test images of one category; higher means more anomalous."""

    records: Sequence[Record]
    preprocess: Preprocess
    image_scores: Float[np.ndarray, " images"]
    anomaly_maps: Float[np.ndarray, "images height width"] | None
    """None: the method has no maps, or they were not kept."""
    extra_scores: Mapping[str, Float[np.ndarray, " images"]] = field(default_factory=dict)
    """Further image scores of a paper, by its names of them."""
    peaks: Sequence[float] = ()
    """The largest value of each map, also where the maps were not kept."""

    @property
    def labels(self) -> Int64[np.ndarray, " images"]:
        """0 normal, 1 anomalous; from the folder, never from the mask."""
        return np.array([record.label for record in self.records], dtype=np.int64)


@runtime_checkable
class ScoresFeatures(Protocol):
    """A detector that can begin where its frozen network ends."""

    def score_features(self, levels: Sequence[Float[Tensor, "batch ..."]]) -> Prediction:
        """As `Detector.score`, from what a `FeatureStore` holds of the images."""
        ...


def collect(
    detector: Detector,
    dataset: AnomalyDataset,
    *,
    batch_size: int,
    workers: int = 0,
    keep_maps: bool = True,
    store: FeatureStore | None = None,
) -> Scores:
    """Score every image of a dataset once, in order.

    Args:
        keep_maps: False saves their memory (4 bytes a pixel) where no pixel metric or picture is wanted.
        store: the frozen features of these images, for detectors that are `ScoresFeatures`.
    """
    count, size = len(dataset), dataset.preprocess.size
    columns: dict[str, Float[np.ndarray, " images"]] = {}
    anomaly_maps = np.empty((count, size, size), dtype=np.float32) if keep_maps else None
    peaks: list[float] = []
    for places, prediction in _predictions(detector, dataset, batch_size, workers, store):
        peaks += prediction.peaks
        for name, scores in {"": prediction.image_scores, **prediction.extra_scores}.items():
            columns.setdefault(name, np.empty(count, dtype=np.float32))[places] = scores.cpu().numpy()
        if prediction.anomaly_maps is None:
            anomaly_maps = None
        elif anomaly_maps is not None:
            anomaly_maps[places] = prediction.anomaly_maps.cpu().numpy()
    image_scores = columns.pop("", np.empty(0, dtype=np.float32))
    return Scores(dataset.records, dataset.preprocess, image_scores, anomaly_maps, columns, peaks)


def _predictions(
    detector: Detector, dataset: AnomalyDataset, batch_size: int, workers: int, store: FeatureStore | None
) -> Iterator[tuple[Int64[np.ndarray, " batch"], Prediction]]:
    """Positions in the dataset, and what the detector says of the images there."""
    with tqdm(total=len(dataset), desc="scoring", unit="image", disable=None, leave=False) as bar:
        if store is None:
            for batch in test_batches(dataset, batch_size, workers):
                yield batch.indices.numpy(), detector.score(batch.images)
                bar.update(len(batch.indices))
            return
        assert isinstance(detector, ScoresFeatures)
        for first in range(0, len(dataset), batch_size):
            places = np.arange(first, min(first + batch_size, len(dataset)))
            yield places, detector.score_features(store.batch(places.tolist()))
            bar.update(len(places))
