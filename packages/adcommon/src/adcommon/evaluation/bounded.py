"""Evaluation in bounded memory: maps are measured and drawn as they pass, a batch at a time."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from adcommon.data.loading import AnomalyDataset
from adcommon.evaluation.collect import Predictions, Scores
from adcommon.evaluation.maps import Drawing
from adcommon.evaluation.measure import LIMITS, of_images, with_mask, with_pixels
from adcommon.metrics.streaming import StreamingMetrics
from adcommon.types.prediction import Prediction
from adcommon.types.records import Evaluation, has_pixel_truth
from adcommon.types.threshold import Threshold


class Passing:
    """The maps of a category on their way from the detector: counted, drawn, and let go."""

    def __init__(
        self,
        dataset: AnomalyDataset,
        *,
        eval_size: str = "map",
        maps: Path | None = None,
        threshold: Threshold | None = None,
    ) -> None:
        """None has passed yet.

        Args:
            dataset: whose images they are of.
            eval_size: of pixel metrics, see `measure`.
            maps: folder for pictures of all images, as of `write_maps`; None draws none.
            threshold: decides, and gives the pictures their colours; without it each has its own.
        """
        self._dataset, self._eval_size, self._threshold = dataset, eval_size, threshold
        self._pixels = StreamingMetrics() if has_pixel_truth(dataset.records) else None
        self._shapes: set[tuple[int, ...]] = set()
        self._drawing: Drawing | None = None
        if maps is not None:
            colours = None if threshold is None else threshold.colours
            self._drawing = Drawing(dataset.records, dataset.preprocess, maps, colours)

    def without_maps(self, predictions: Predictions) -> Predictions:
        """The same predictions; their maps are looked at here for the last time."""
        for places, prediction in predictions:
            if prediction.anomaly_maps is not None:
                maps = prediction.anomaly_maps.float().numpy()
                self._shapes.add(maps.shape[1:])
                if self._drawing is not None:
                    self._drawing.draw(places.tolist(), maps)
                for place, anomaly_map in zip(places.tolist(), maps, strict=True):
                    self._count(place, anomaly_map)
            yield places, Prediction(prediction.image_scores, None, prediction.extra_scores)

    def _count(self, place: int, anomaly_map: Float[np.ndarray, "_ _"]) -> None:
        record = self._dataset.records[place]
        if self._pixels is not None:
            sized, mask = with_mask(record, anomaly_map, self._dataset.preprocess, self._eval_size)
            self._pixels.update(sized, mask, names=[str(record.image)], labels=[record.label])

    def measured(self, scores: Scores, category: str) -> Evaluation:
        """As `measure`, with certified bounds of pixel metrics; the page of the pictures is written too."""
        evaluation = of_images(scores, category)
        if not self._shapes:
            return evaluation
        if self._drawing is not None:
            self._drawing.finish(scores.image_scores, self._threshold)
        if self._pixels is None:
            return evaluation
        return with_pixels(evaluation, self._pixels.compute(LIMITS), self._shapes, self._eval_size)
