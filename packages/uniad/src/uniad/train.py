"""Training: one loop, in the order of time.

A *step* is one update of the reconstruction; an *epoch* one pass over the training images.
"""

import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from accelerate import Accelerator

from adcommon.data.loading import cut, divide
from adcommon.data.order import batches_per_epoch
from adcommon.data.readable import kinds_of, read_splits
from adcommon.evaluation.evaluate import evaluate, has_both, interim_values, threshold_of
from adcommon.io.cache import default_cache
from adcommon.models.backbones import create_trunk
from adcommon.models.checkpoint import save_trained
from adcommon.models.sharing import meet
from adcommon.results.rows import row
from adcommon.training.devices import distribute, set_seed
from adcommon.training.resume import refuse_without_room, restore, save
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.training.steps import Readings, steps
from adcommon.training.stop import StopSignal
from adcommon.types.records import Split
from uniad.checkpoint import start_from
from uniad.data import feature_store, fit_whitening, training_features
from uniad.detector import make_detector, make_preprocess
from uniad.evaluate import Best, facts, protocols
from uniad.model import build
from uniad.optimiser import make_optimiser, seed_step, update
from uniad.published import PAPER
from uniad.recipes import Recipe

logger = logging.getLogger(__name__)


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
        splits: by category: all of them for the paper's unified model, one for a separate model.
        run: where metrics, resume state, model and pictures go.
        settings: weights, workers, cache, how often to save, what to write.
        stop: looked at after every step; if set, the state is saved and `Stopped` raised.

    Returns:
        Rows of the report, also stored with the model; on the main process only.
    """
    began = time.monotonic()
    set_seed(recipe.seed)
    category = "+".join(splits)
    preprocess = make_preprocess(recipe)
    cache = default_cache("images", enabled=settings.cache)
    normal = [record for split in splits.values() for record in split.train]
    training, held_out = divide(normal, preprocess, share=recipe.calibration_share, seed=recipe.seed)
    tests = {name: split.test for name, split in splits.items()}
    per_epoch = batches_per_epoch(len(training), recipe.batch_size, world=accelerator.num_processes)
    total = recipe.iterations or recipe.epochs * per_epoch

    model = build(recipe, weights=settings.weights)
    if recipe.init_from is not None:
        start_from(model, recipe.init_from)
    model = model.to(accelerator.device)
    if recipe.whiten and recipe.init_from is None:
        fit_whitening(
            model, training, preprocess, accelerator, cache=settings.cache, workers=settings.workers
        )
    optimiser, schedule = make_optimiser(model.reconstruction.parameters(), recipe, per_epoch)
    optimiser = accelerator.prepare_optimizer(optimiser, device_placement=False)
    best, learning = Best(), model.reconstruction
    state = {"reconstruction": learning, "optimiser": optimiser, "schedule": schedule, "best": best}
    refuse_without_room(run, learning)
    first = restore(run, recipe, state, accelerator) if settings.resume else 0

    reconstruction = distribute(learning, accelerator, compiles=recipe.compile)
    batches = training_features(
        model,
        training,
        preprocess,
        recipe,
        accelerator,
        start=first,
        cache=settings.cache,
        workers=settings.workers,
    )
    stores = None  # of the test images, whose features never change
    if recipe.cache_features:
        kept = partial(feature_store, model, cache=settings.cache, workers=settings.workers)
        stores = {name: kept(cut(test, preprocess), preprocess, accelerator) for name, test in tests.items()}
    measure = partial(
        evaluate,
        batch_size=recipe.test_batch_size,
        cache=cache,
        workers=settings.workers,
        eval_size=settings.eval_size,
        metrics=settings.metrics,
        stores=stores,
        accelerator=accelerator,
    )
    origin = facts(recipe, settings.weights)
    save_as = partial(
        save_trained,
        paper=PAPER,
        facts=origin,
        recipe=recipe,
        preprocess=preprocess,
        categories=list(splits),
        kinds=kinds_of(splits, preprocess, cache) if accelerator.is_main_process else (),
        learned_from=training,
    )
    meet(accelerator)
    counts = (len(training), len(held_out), total, per_epoch)
    logger.info("training %s images %d held out %d steps %d, %d an epoch", category, *counts)

    readings = Readings(accelerator, learning)
    evaluate_every = recipe.evaluate_every * per_epoch
    model.train()
    for step in steps(
        first,
        total,
        stop,
        accelerator,
        what=category,
        save_every=settings.save_every or evaluate_every,
        minutes=settings.minutes,
        trace=run.trace if settings.profile else None,
        evaluate_every=evaluate_every,
    ):
        seed_step(recipe.seed, accelerator.process_index, step.number)
        lr = schedule.get_last_lr()[0]
        loss, norm = update(
            reconstruction,
            step.pace.draw(next, batches),
            optimiser,
            accelerator,
            clip_norm=recipe.clip_norm,
            loss_weight=recipe.loss_weight,
            parts=recipe.accumulate,
        )
        schedule.step()
        readings.add(loss=loss, gradient_norm=norm, lr=lr)

        if step.is_due:
            rows = readings.take(step)
            interim = {}
            if step.evaluates:
                both = {name: test for name, test in tests.items() if has_both(test)}
                evaluations = measure(make_detector(model, preprocess, recipe), both)
                interim = interim_values(evaluations)
                if recipe.keep_best and best.takes(evaluations):
                    save_as(run.best_model, model.state_dict())
            if accelerator.is_main_process:
                run.log_rows(step.number, rows, interim, step.pace.figures)
                if step.saves:
                    save(run, step.number, recipe, state, accelerator)
            meet(accelerator)
            model.train()

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
    )
    seconds = time.monotonic() - began
    report = [row(evaluation, origin, seconds=seconds) for evaluation in evaluations]
    if accelerator.is_main_process:
        save_as(run.model, model.state_dict(), threshold=threshold, rows=report)
    meet(accelerator)
    return report


def check_inputs(recipe: Recipe, splits: Mapping[str, Split], settings: Settings) -> None:
    """Fail now and not after hours: weights that are missing, images and masks that cannot be used."""
    create_trunk(recipe.backbone, settings.weights, strides=recipe.strides)
    read_splits(splits.values(), make_preprocess(recipe), default_cache("images", enabled=settings.cache))
