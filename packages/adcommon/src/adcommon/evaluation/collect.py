"""From a detector to scores: every test image is scored once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from adcommon.data.loading import AnomalyDataset, cut, ordered_indices, test_batches
from adcommon.data.preprocess import Preprocess
from adcommon.models.feature_store import FeatureStore
from adcommon.models.sharing import gathered, place_of
from adcommon.types.prediction import Detector, Prediction
from adcommon.types.records import Record

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True, slots=True)
class Scores:
    """What a detector said of the test images of one category; higher means more anomalous."""

    records: Sequence[Record]
    preprocess: Preprocess
    image_scores: Float[np.ndarray, " images"]
    anomaly_maps: Float[np.ndarray, "images height width"] | Sequence[Float[np.ndarray, "_ _"]] | None
    """Of images that are cut, one after the other and each of its own size. None: the method has no maps, or
    they were not kept."""
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


Predictions = Iterator[tuple[Int64[np.ndarray, " batch"], Prediction]]
"""Positions in a dataset, and what the detector says of the images there."""


def scored(
    detector: Detector,
    dataset: AnomalyDataset,
    *,
    batch_size: int,
    workers: int | None = 0,
    store: FeatureStore | None = None,
    accelerator: "Accelerator | None" = None,
) -> Predictions:
    """What a detector says of every image of a dataset, once, in order, on the CPU.

    An image that is cut scores as its highest tile, and has the joined map of all of them.

    Args:
        batch_size: images, or tiles, that are scored at once.
        store: the frozen features of these images, or of their tiles, for detectors that are
            `ScoresFeatures`.
        accelerator: of several processes, which all run through this and score a share each: the main one is
            told of all images, as if it were alone, and the others of none.
    """
    records, preprocess = dataset.records, dataset.preprocess
    if preprocess.tile is None:
        return _predictions(detector, dataset, batch_size, workers, store, accelerator)
    tiles = AnomalyDataset(cut(records, preprocess), preprocess, dataset.cache, memory_bytes=0)
    of_tiles = _predictions(detector, tiles, batch_size, workers, store, accelerator)
    is_main = place_of(accelerator)[0] == 0
    return _joined(of_tiles, records, preprocess) if is_main else of_tiles


def kept(predictions: Predictions, dataset: AnomalyDataset, *, keep_maps: bool = True) -> Scores:
    """What was said of the images of a dataset, in order; of none where nothing was said.

    Args:
        keep_maps: False saves their memory (4 bytes a pixel) where no pixel metric or picture is wanted.
    """
    preprocess, count = dataset.preprocess, len(dataset)
    columns: dict[str, Float[np.ndarray, " images"]] = {}
    peaks: list[float] = []
    anomaly_maps: Any = None
    for places, prediction in predictions:
        peaks += prediction.peaks
        for name, scores in {"": prediction.image_scores, **prediction.extra_scores}.items():
            columns.setdefault(name, np.empty(count, dtype=np.float32))[places] = scores.numpy()
        if prediction.anomaly_maps is None or not keep_maps:
            continue
        if anomaly_maps is None:
            tiled, side = preprocess.tile is not None, preprocess.size
            anomaly_maps = [None] * count if tiled else np.empty((count, side, side), np.float32)
        for place, anomaly_map in zip(places, prediction.anomaly_maps.numpy(), strict=True):
            anomaly_maps[place] = anomaly_map
    records = dataset.records if columns else ()
    image_scores = columns.pop("", np.empty(0, dtype=np.float32))
    return Scores(records, preprocess, image_scores, anomaly_maps, columns, peaks)


def collect(
    detector: Detector,
    dataset: AnomalyDataset,
    *,
    batch_size: int,
    workers: int | None = 0,
    keep_maps: bool = True,
    store: FeatureStore | None = None,
    accelerator: "Accelerator | None" = None,
) -> Scores:
    """`kept` of what is `scored`."""
    predictions = scored(
        detector, dataset, batch_size=batch_size, workers=workers, store=store, accelerator=accelerator
    )
    return kept(predictions, dataset, keep_maps=keep_maps)


def device_of(detector: Detector) -> torch.device:
    """Where a detector wants its images: its attribute `device`, else the CPU."""
    return torch.device(getattr(detector, "device", "cpu"))


def _predictions(
    detector: Detector,
    dataset: AnomalyDataset,
    batch_size: int,
    workers: int | None,
    store: FeatureStore | None,
    accelerator: "Accelerator | None",
) -> Predictions:
    """Of every batch, on the main process; on the others of none, which only score their share of them."""
    rank, world = place_of(accelerator)
    own: Predictions
    if store is None:
        device = device_of(detector)
        batches = test_batches(dataset, batch_size, workers, device=device, rank=rank, world=world)
        said = ((batch.indices.numpy(), detector.score(batch.images)) for batch in batches)
    else:
        assert isinstance(detector, ScoresFeatures)
        places = ordered_indices(len(dataset), batch_size, rank, world)
        said = ((np.array(some), detector.score_features(store.batch(some))) for some in places)
    own = _on_cpu(said)
    hidden = True if rank else None  # None: where there is no terminal
    with tqdm(total=len(dataset), desc="scoring", unit="image", disable=hidden, leave=False) as bar:
        for _ in range(0, len(dataset), batch_size * world):
            for some, prediction in gathered(next(own, None), accelerator):
                yield some, prediction
                bar.update(len(some))


def _on_cpu(said: Predictions) -> Predictions:
    """The same on the CPU; a GPU works on a batch while what it said of the one before is taken from it."""
    waiting: tuple[Int64[np.ndarray, " batch"], Prediction, torch.cuda.Event] | None = None
    for places, prediction in said:
        maps, later = prediction.anomaly_maps, prediction.image_scores.is_cuda
        copied = Prediction(
            prediction.image_scores.to("cpu", non_blocking=later),
            None if maps is None else maps.to("cpu", non_blocking=later),
            {name: each.to("cpu", non_blocking=later) for name, each in prediction.extra_scores.items()},
        )
        if not later:
            yield places, copied
            continue
        if waiting is not None:
            waiting[2].synchronize()
            yield waiting[:2]
        waiting = places, copied, torch.cuda.Event()
        waiting[2].record()
    if waiting is not None:
        waiting[2].synchronize()
        yield waiting[:2]


def _joined(of_tiles: Predictions, records: Sequence[Record], preprocess: Preprocess) -> Predictions:
    """What is said of each image, from what is said of its tiles, which come in the order of the images."""
    each = (one for _, prediction in of_tiles for one in _single(prediction))
    for place, record in enumerate(records):
        size = preprocess.size_of(record.image)
        tiles = list(islice(each, len(preprocess.boxes(*size))))
        maps = [tile.anomaly_maps for tile in tiles if tile.anomaly_maps is not None]
        joined = preprocess.join(torch.cat(maps).numpy(), *size) if maps else None
        yield (
            np.array([place]),
            Prediction(
                torch.stack([tile.image_scores for tile in tiles]).amax(0),
                None if joined is None else torch.from_numpy(joined)[None],
                {
                    name: torch.stack([tile.extra_scores[name] for tile in tiles]).amax(0)
                    for name in tiles[0].extra_scores
                },
            ),
        )


def _single(prediction: Prediction) -> Iterator[Prediction]:
    """What is said of each image of a batch by itself."""
    maps = prediction.anomaly_maps
    for row in range(len(prediction.image_scores)):
        own = slice(row, row + 1)
        extra = {name: scores[own] for name, scores in prediction.extra_scores.items()}
        yield Prediction(prediction.image_scores[own], None if maps is None else maps[own], extra)
