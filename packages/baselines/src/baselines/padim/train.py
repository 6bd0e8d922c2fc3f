"""Making a model: one pass over the normal images."""

from collections.abc import Iterator
from typing import Any

from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from adcommon.types.prediction import Prediction
from adcommon.types.records import Split
from baselines.features import make_preprocess
from baselines.one_pass import Made, make
from baselines.padim.detector import make_detector
from baselines.padim.gaussian import leave_one_out
from baselines.padim.model import build
from baselines.padim.published import PAPER
from baselines.padim.recipes import Recipe


def train(
    recipe: Recipe, split: Split, run: Run, accelerator: Accelerator, settings: Settings, stop: StopSignal
) -> list[dict[str, Any]]:
    """Fit the Gaussians of one category to its normal images, measure the model and save it; see `make`."""

    def fit(images: Iterator[Float[Tensor, "_ 3 height width"]], count: int) -> Made:
        model = build(recipe, weights=settings.weights).to(accelerator.device)
        model.fit(images, recipe)
        detector = make_detector(model, make_preprocess(recipe), recipe)

        def left_out(images: Float[Tensor, "batch 3 height width"], _: int) -> Prediction:
            return detector.finish(leave_one_out(model(images), count, recipe.prior), images)

        return Made(model, detector, {"channels": model.channels}, left_out)

    return make(recipe, split, run, accelerator, settings, stop, method="padim", paper=PAPER, fit=fit)
