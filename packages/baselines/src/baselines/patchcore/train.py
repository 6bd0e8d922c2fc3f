"""Making a model: one pass over the normal images."""

from collections.abc import Iterator
from typing import Any

from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
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
        model.fit(images, recipe, count)
        detector = make_detector(model, make_preprocess(recipe), recipe)
        return Made(model, detector, {"patches": len(model.memory)})

    return make(recipe, split, run, accelerator, settings, stop, method="patchcore", paper=PAPER, fit=fit)
