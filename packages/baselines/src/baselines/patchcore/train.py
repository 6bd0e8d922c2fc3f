"""Making a model: one pass over the normal images."""

from collections.abc import Iterator
from typing import Any

from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from adcommon.models.anomaly_maps import joined
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from adcommon.types.prediction import Prediction
from adcommon.types.records import Split
from baselines.features import make_preprocess
from baselines.one_pass import Made, make
from baselines.patchcore.detector import make_detector
from baselines.patchcore.model import build
from baselines.patchcore.published import PAPER
from baselines.patchcore.recipes import Recipe


def train(
    recipe: Recipe, split: Split, run: Run, accelerator: Accelerator, settings: Settings, stop: StopSignal
) -> list[dict[str, Any]]:
    """Fill the memory of one category with its normal images, measure the model and save it; see `make`."""

    def fit(images: Iterator[Float[Tensor, "_ 3 height width"]], count: int) -> Made:
        model = build(recipe, weights=settings.weights).to(accelerator.device)
        owner = model.fit(images, recipe, count)
        preprocess = make_preprocess(recipe)

        def left_out(images: Float[Tensor, "batch 3 height width"], first: int) -> Prediction:
            others = (model.remembering(owner != place) for place in range(first, first + len(images)))
            return joined(
                make_detector(other, preprocess, recipe).score(image)
                for other, image in zip(others, images.split(1), strict=True)
            )

        detector = make_detector(model, preprocess, recipe)
        return Made(model, detector, {"patches": len(model.memory)}, left_out)

    return make(recipe, split, run, accelerator, settings, stop, method="patchcore", paper=PAPER, fit=fit)
