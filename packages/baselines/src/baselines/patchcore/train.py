"""Making a model: one pass over the normal images, in the order of time."""

import time
from typing import Any

from accelerate import Accelerator

from adcommon.training.devices import set_seed
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from adcommon.types.records import Split
from baselines.features import make_preprocess
from baselines.one_pass import Normal, facts_of, finish, normal_images, passed_over
from baselines.patchcore.detector import make_detector
from baselines.patchcore.model import build
from baselines.patchcore.published import PAPER
from baselines.patchcore.recipes import Recipe


def train(
    recipe: Recipe, split: Split, run: Run, accelerator: Accelerator, settings: Settings, stop: StopSignal
) -> list[dict[str, Any]]:
    """Fill the memory of one category with its normal images, measure the model and save it.

    Args:
        run: where model and pictures go.
        settings: weights, workers, cache, what to write.
        stop: looked at after every batch; if set, `Stopped` is raised.

    Returns:
        Rows of the report, also stored with the model; on the main process only.
    """
    began = time.monotonic()
    set_seed(recipe.seed)
    normal = Normal.of(recipe, split)
    images = normal_images(normal, recipe, settings, accelerator, stop)
    rows: list[dict[str, Any]] = []
    if accelerator.is_main_process:
        model = build(recipe, weights=settings.weights).to(accelerator.device)
        model.fit(images, recipe, len(normal.images))
        rows = finish(
            make_detector(model, make_preprocess(recipe), recipe),
            model,
            normal,
            recipe,
            split,
            run,
            settings,
            paper=PAPER,
            facts=facts_of("patchcore", recipe, settings.weights),
            began=began,
            own={"patches": len(model.memory)},
        )
    else:
        passed_over(images)
    accelerator.wait_for_everyone()
    return rows
