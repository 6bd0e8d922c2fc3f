"""Training: one loop, in the order of time.

Iterations are counted from 0, as in the paper's schedules; a *step* in logs and files counts updates done.
"""

import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator

from adcommon.data.loading import AnomalyDataset, divide, train_batches
from adcommon.data.readable import kinds_of, read_splits
from adcommon.evaluation.evaluate import evaluate, has_both, interim_values, threshold_of
from adcommon.io.cache import default_cache
from adcommon.models.backbones import create_trunk
from adcommon.models.checkpoint import save_trained
from adcommon.models.feature_store import cached_features
from adcommon.models.sharing import as_on_main, meet
from adcommon.results.rows import row
from adcommon.training.devices import distribute, set_seed
from adcommon.training.resume import refuse_without_room, restore, save
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.training.steps import Readings, steps
from adcommon.training.stop import StopSignal
from adcommon.types.records import Split
from recontrast.detector import make_detector, make_preprocess
from recontrast.evaluate import facts, pictures, protocols
from recontrast.losses import criterion_of, loss_of
from recontrast.model import FrozenEncoder, WithPartialNorm, build
from recontrast.optimiser import holds_encoder, make_optimiser, reset, resets_optimiser, update
from recontrast.published import PAPER
from recontrast.recipes import Recipe

logger = logging.getLogger(__name__)

FEATURE_BATCH = 16
"""Images per pass through the frozen encoder when its maps are kept."""


def train(
    recipe: Recipe,
    splits: Mapping[str, Split],
    run: Run,
    accelerator: Accelerator,
    settings: Settings,
    stop: StopSignal,
) -> list[dict[str, Any]]:
    """Train one model on the normal images of `splits`, save it, and evaluate it on each category.

    Args:
        splits: by category: one for a one-class model, several for a multi-class one.
        run: where metrics, resume state, model and pictures go.
        settings: weights, workers, cache, how often to save, what to write.
        stop: looked at after every step; if set, the state is saved and `Stopped` raised.

    Returns:
        Rows of the report, also stored with the model; on the main process only.
    """
    began = time.monotonic()
    set_seed(recipe.seed)
    device = accelerator.device
    category = "+".join(splits)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    preprocess = make_preprocess(recipe)
    cache = default_cache("images", enabled=settings.cache)
    normal = [record for split in splits.values() for record in split.train]
    tests = {name: split.test for name, split in splits.items()}
    training, held_out = divide(normal, preprocess, share=recipe.calibration_share, seed=recipe.seed)
    recipe = recipe.for_images(len(training))

    model = build(recipe, weights=settings.weights, category=category).to(device).to(memory_format=layout)
    optimiser, schedule = make_optimiser(model, recipe)
    optimiser = accelerator.prepare_optimizer(optimiser, device_placement=False)
    state = {"model": WithPartialNorm(model), "optimiser": optimiser, "schedule": schedule}
    refuse_without_room(run, model)
    first = restore(run, recipe, state, accelerator) if settings.resume else 0

    store = None
    if recipe.cache_features:
        store = cached_features(
            FrozenEncoder(model, recipe.backbone),
            AnomalyDataset(training, preprocess, cache, memory_bytes=0),
            FEATURE_BATCH,
            default_cache("features", enabled=settings.cache),
            workers=settings.workers,
            accelerator=accelerator,
        )
    wrapped = distribute(model, accelerator, sync_batch_norm=recipe.sync_batch_norm, compiles=recipe.compile)
    batches = train_batches(
        AnomalyDataset(training, preprocess, cache),
        recipe.batch_size,
        seed=recipe.seed,
        start=first,
        drop_last=recipe.drop_last,
        workers=settings.workers,
        device=device,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    measure = partial(
        evaluate,
        batch_size=recipe.test_batch_size,
        cache=cache,
        workers=settings.workers,
        eval_size=settings.eval_size,
        metrics=settings.metrics,
        accelerator=accelerator,
    )
    counts = (category, len(training), len(held_out), recipe.iterations)
    logger.info("training %s images %d held out %d steps %d", *counts)

    readings = Readings(accelerator, model)
    model.train()
    for step in steps(
        first,
        recipe.iterations,
        stop,
        accelerator,
        what=category,
        save_every=settings.save_every or recipe.evaluate_every,
        minutes=settings.minutes,
        trace=run.trace if settings.profile else None,
        evaluate_every=recipe.evaluate_every,
    ):
        iteration = step.number - 1
        batch = step.pace.draw(next, batches)
        images = batch.images.to(memory_format=layout)
        levels = None if store is None else step.pace.wait(store.batch, batch.indices)
        kept = levels and [level.to(memory_format=layout) for level in levels]
        criterion = criterion_of(recipe, iteration)
        hold = holds_encoder(recipe, iteration)
        loss = update(wrapped, images, optimiser, accelerator, criterion, hold_encoder=hold, frozen=kept)
        readings.add(loss=loss)
        schedule.step()
        if resets_optimiser(recipe, iteration):
            reset(optimiser)

        if step.is_due:
            rows = readings.take(step)
            interim = {}
            if step.evaluates:
                as_on_main(model, accelerator)
                both = {name: test for name, test in tests.items() if has_both(test)}
                interim = interim_values(measure(make_detector(model, preprocess, recipe), both))
            if accelerator.is_main_process:
                run.log_rows(step.number, rows, interim, step.pace.figures)
                if step.saves:
                    save(run, step.number, recipe, state, accelerator)
            meet(accelerator)
            model.train()

    as_on_main(model, accelerator)
    detector = make_detector(model, preprocess, recipe)
    threshold = threshold_of(
        detector,
        held_out,
        false_alarm_rate=settings.false_alarm_rate,
        batch_size=recipe.test_batch_size,
        cache=cache,
        accelerator=accelerator,
    )
    evaluations = measure(
        detector,
        tests,
        protocols=protocols(recipe),
        threshold=threshold,
        maps=run.maps if settings.maps else None,
        pictures=pictures(recipe),
    )
    origin, seconds = facts(recipe, settings.weights), time.monotonic() - began
    report = [row(evaluation, origin, seconds=seconds) for evaluation in evaluations]
    if accelerator.is_main_process:
        save_trained(
            run.model,
            model.state_dict(),
            PAPER,
            origin,
            recipe=recipe,
            preprocess=preprocess,
            categories=list(splits),
            threshold=threshold,
            kinds=kinds_of(splits, preprocess, cache),
            learned_from=training,
            rows=report,
        )
    meet(accelerator)
    return report


def check_inputs(recipe: Recipe, splits: Mapping[str, Split], settings: Settings) -> None:
    """Fail now and not after hours: an unknown loss, missing weights, images and masks that are of no use."""
    loss_of(recipe.loss)
    create_trunk(recipe.backbone, settings.weights)
    read_splits(splits.values(), make_preprocess(recipe), default_cache("images", enabled=settings.cache))
