"""What stands around both methods: every image is seen once, then the model is measured and saved."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.data.loading import AnomalyDataset, cut, test_batches
from adcommon.data.readable import kinds_of, read_splits
from adcommon.data.sources.splits import hold_out
from adcommon.errors import BadValue
from adcommon.evaluation.evaluate import evaluate, threshold_of
from adcommon.io.cache import default_cache
from adcommon.models.checkpoint import save_trained
from adcommon.models.sharing import as_on_main, gathered, meet, place_of
from adcommon.results.card import Paper
from adcommon.results.rows import row
from adcommon.training.devices import set_seed
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.training.steps import steps
from adcommon.training.stop import StopSignal
from adcommon.types.facts import Facts
from adcommon.types.prediction import Detector, Prediction
from adcommon.types.records import Record, Split
from adcommon.types.threshold import Threshold, calibrate, images_needed
from baselines.features import make_preprocess, make_pyramid
from baselines.recipe import Base

logger = logging.getLogger(__name__)

STEADY = 10
"""Times the fewest images that support a rate: then the rate that holds is seldom half or twice of it."""


@dataclass(frozen=True)
class Normal:
    """The normal images of a category: those that make the model, and those kept out for its threshold."""

    images: list[Record]
    held_out: list[Record]
    in_turn: bool = False
    """None are kept out, because they would be too few: each image is left out of the model in turn."""

    @classmethod
    def of(cls, recipe: Base, split: Split, false_alarm_rate: float) -> "Normal":
        """Divide the training images as the recipe says, if enough are kept out for a steady rate.

        Tiles of one image resemble each other, so that one by one they cannot be left out of the model:
        where images are cut, as many are kept out as the rate needs, at most half of them.

        Raises:
            BadValue: there are fewer than the shots.
        """
        share, needed = recipe.calibration_share, images_needed(false_alarm_rate)
        if recipe.tile is not None and share:
            share = max(share, min(0.5, needed / len(split.train)))
        elif share and not recipe.shots and math.floor(share * len(split.train)) < STEADY * needed:
            return cls(split.train, [], in_turn=len(split.train) > 2)
        images, held_out = hold_out(split.train, share, recipe.seed)
        if recipe.shots:
            if recipe.shots > len(images):
                raise BadValue(
                    f"{recipe.shots} shots are asked for; {split.category} has {len(images)} normal images "
                    f"for the model; use --shots {len(images)}, or fewer"
                )
            order = np.random.default_rng(recipe.seed).permutation(len(images))
            images = [images[place] for place in sorted(order[: recipe.shots].tolist())]
        return cls(images, held_out)


def normal_images(
    parts: Sequence[Record],
    recipe: Base,
    settings: Settings,
    accelerator: Accelerator,
    stop: StopSignal,
    *,
    shared: bool = False,
) -> Iterator[tuple[int, Float[Tensor, "_ 3 height width"]] | None]:
    """Every image, or every tile, once, on the accelerator's device: batches, with the place of their first.

    Nothing is saved in between: a run that was stopped begins again, and ends in the same model.

    Args:
        shared: several processes take the batches in turn, in step; None where the last round has none for
            this one. Else each sees all of them.
    """
    rank, world = place_of(accelerator) if shared else (0, 1)
    dataset = AnomalyDataset(parts, make_preprocess(recipe), default_cache("images", enabled=settings.cache))
    size, device = recipe.batch_size, accelerator.device
    batches = iter(test_batches(dataset, size, settings.workers, device=device, rank=rank, world=world))
    rounds = -(-len(parts) // (recipe.batch_size * world))
    for _ in steps(0, rounds, stop, accelerator, what=parts[0].category, log_every=1):
        batch = next(batches, None)
        yield None if batch is None else (int(batch.indices[0]), batch.images)


@dataclass(frozen=True)
class Made:
    """What a method makes of the images."""

    model: nn.Module
    detector: Detector
    own: Mapping[str, Any]
    """What the method's config says besides."""
    left_out: Callable[[Float[Tensor, "batch 3 height width"], int], Prediction]
    """What the model of all others says of training images; the number is the place of the first."""


def make(
    recipe: Base,
    split: Split,
    run: Run,
    accelerator: Accelerator,
    settings: Settings,
    stop: StopSignal,
    *,
    method: str,
    paper: Paper,
    fit: Callable[[Iterator[Float[Tensor, "_ 3 height width"]], int], Made],
) -> list[dict[str, Any]]:
    """Make the model of one category of its normal images, choose its threshold, measure it and save it.

    Args:
        run: where model and pictures go.
        settings: weights, workers, cache, what to write.
        stop: looked at after every batch; if set, `Stopped` is raised.
        fit: from the images, batch after batch, and their number; every process fits the same model.

    Returns:
        Rows of the report, also stored with the model; on the main process only.
    """
    began = time.monotonic()
    set_seed(recipe.seed)
    normal = Normal.of(recipe, split, settings.false_alarm_rate)
    parts = cut(normal.images, make_preprocess(recipe))
    passes = partial(normal_images, parts, recipe, settings, accelerator, stop)
    made = fit((batch[1] for batch in passes() if batch is not None), len(parts))
    meet(accelerator)
    as_on_main(made.model, accelerator)
    cache = default_cache("images", enabled=settings.cache)
    if normal.in_turn:
        threshold = left_out_in_turn(made, passes(shared=True), settings.false_alarm_rate, accelerator)
    else:
        threshold = threshold_of(
            made.detector,
            normal.held_out,
            false_alarm_rate=settings.false_alarm_rate,
            batch_size=recipe.batch_size,
            cache=cache,
            accelerator=accelerator,
        )
    evaluations = evaluate(
        made.detector,
        {split.category: split.test},
        batch_size=recipe.batch_size,
        cache=cache,
        workers=settings.workers,
        eval_size=settings.eval_size,
        metrics=settings.metrics,
        threshold=threshold,
        maps=run.maps if settings.maps else None,
        accelerator=accelerator,
    )
    facts = facts_of(method, recipe, settings.weights)
    rows = [row(evaluation, facts, seconds=time.monotonic() - began) for evaluation in evaluations]
    if accelerator.is_main_process:
        save_trained(
            run.model,
            made.model.state_dict(),
            paper,
            facts,
            recipe=recipe,
            preprocess=made.detector.preprocess,
            categories=[split.category],
            threshold=threshold,
            kinds=kinds_of({split.category: split}, made.detector.preprocess, cache),
            learned_from=normal.images,
            rows=rows,
            own=made.own,
        )
    meet(accelerator)
    return rows


def left_out_in_turn(
    made: Made,
    images: Iterable[tuple[int, Float[Tensor, "_ 3 height width"]] | None],
    false_alarm_rate: float,
    accelerator: Accelerator,
) -> Threshold | None:
    """The decision threshold from every training image, scored by the model of all others.

    Several processes share the images; the main one alone has the threshold.
    """
    scores: list[float] = []
    peaks: list[float] = []
    with torch.inference_mode():
        for batch in images:
            said = None
            if batch is not None:
                prediction = made.left_out(batch[1], batch[0])
                said = prediction.image_scores.tolist(), prediction.peaks
            for some, highest in gathered(said, accelerator):
                scores += some
                peaks += highest
    if not accelerator.is_main_process:
        return None
    return calibrate(scores, false_alarm_rate, "left out in turn", peaks)


def facts_of(method: str, recipe: Base, weights: str) -> Facts:
    """Where a model of a recipe comes from.

    Args:
        weights: where the backbone's came from.
    """
    return Facts(
        method=method,
        dataset=recipe.dataset,
        setting="one-class",
        backbone=recipe.backbone,
        weights=weights,
        seed=recipe.seed,
        shots=recipe.shots or None,
    )


def check_inputs(recipe: Base, splits: Mapping[str, Split], settings: Settings) -> None:
    """Fail now: weights that are missing, images and masks that cannot be used, too few of them."""
    if settings.profile:
        raise BadValue("--profile has no effect here, where nothing is trained step by step; leave it out")
    for split in splits.values():
        Normal.of(recipe, split, settings.false_alarm_rate)
    make_pyramid(recipe, settings.weights)
    read_splits(splits.values(), make_preprocess(recipe), default_cache("images", enabled=settings.cache))
