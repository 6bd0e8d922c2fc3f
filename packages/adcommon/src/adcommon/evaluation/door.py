"""A model on labelled images, by the standard protocol."""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.data.loading import AnomalyDataset
from adcommon.data.normalise import unnormalise
from adcommon.errors import EmptySplit
from adcommon.evaluation.collect import collect
from adcommon.evaluation.measure import measure, with_decision
from adcommon.types.prediction import Prediction
from adcommon.types.records import Evaluation, Split, has_pixel_truth

if TYPE_CHECKING:
    from adcommon.deploy.model import Model


def evaluate(
    model: "Model",
    split: Split,
    *,
    batch_size: int = 16,
    workers: int | None = 0,
    eval_size: Literal["map", "original"] = "map",
) -> Evaluation:
    """Every standard metric of a model on the test images of one category.

    With a decision threshold, `extra` has its `detection_rate` and `false_alarm_rate` on these images.

    Args:
        workers: processes that load images; 0 loads in this one, None: as many as suit the machine.
        eval_size: of pixel metrics, see `measure`.
    """
    if not split.test:
        raise EmptySplit("the split has no test images")
    detector = _FromPixels(model) if model.detector is None else model.detector
    scores = collect(
        detector,
        AnomalyDataset(split.test, detector.preprocess),
        batch_size=batch_size,
        workers=workers,
        keep_maps=has_pixel_truth(split.test),
    )
    evaluation = measure(scores, category=split.test[0].category, eval_size=eval_size)
    return evaluation if model.threshold is None else with_decision(evaluation, scores, model.threshold)


class _FromPixels:
    """A model that runs without torch, as a `Detector`: images are pixels in [0, 1]."""

    def __init__(self, model: "Model") -> None:
        self.preprocess = replace(model.preprocess, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self._score_pixels = model.score_pixels

    def score(self, images: Float[Tensor, "batch 3 height width"]) -> Prediction:
        prediction = self._score_pixels(unnormalise(images, self.preprocess))
        maps = prediction.anomaly_maps
        return Prediction(
            torch.from_numpy(prediction.image_scores), None if maps is None else torch.from_numpy(maps)
        )
