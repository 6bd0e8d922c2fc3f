"""Training: one loop, in the order of time.

A *step* is one update of the reconstruction; an *epoch* one pass over the training images.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from adcommon.data.loading import AnomalyDataset
from adcommon.data.order import batches_per_epoch
from adcommon.data.readable import read_all
from adcommon.data.sources.splits import hold_out
from adcommon.errors import Stopped
from adcommon.io.cache import default_cache
from adcommon.models.backbones import create_trunk
from adcommon.models.checkpoint import load_model, load_strict
from adcommon.training.devices import any_process, distribute, set_seed
from adcommon.training.resume import restore, save
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from adcommon.types.records import Split
from uniad.compat.official import fill, load_checkpoint
from uniad.data import training_features
from uniad.detector import make_preprocess
from uniad.evaluate import report_row
from uniad.model import UniAD, build
from uniad.optimiser import make_optimiser, seed_step, update
from uniad.recipes import Recipe
from uniad.validation import Validation

logger = logging.getLogger(__name__)

LOG_EVERY = 25
"""Steps between readings of the loss; a reading waits for the device."""


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
    normal = [record for split in splits.values() for record in split.train]
    training, held_out = hold_out(normal, recipe.calibration_share, recipe.seed)
    if recipe.calibration_share and not held_out:
        logger.warning("no decision threshold: too few normal images (%d) to keep any for it", len(normal))
    per_epoch = batches_per_epoch(len(training), recipe.batch_size, world=accelerator.num_processes)
    steps = recipe.iterations or recipe.epochs * per_epoch

    model = build(recipe, weights=settings.weights)
    if recipe.init_from is not None:
        start_from(model, recipe.init_from)
    model = model.to(accelerator.device)
    validation = Validation(model, preprocess, splits, recipe, settings)
    optimiser, schedule = make_optimiser(model.reconstruction.parameters(), recipe, per_epoch)
    optimiser = accelerator.prepare_optimizer(optimiser, device_placement=False)
    state = {
        "reconstruction": model.reconstruction,
        "optimiser": optimiser,
        "schedule": schedule,
        "validation": validation,
    }
    first = restore(run, recipe, state, accelerator) if settings.resume else 0

    reconstruction = distribute(model.reconstruction, accelerator)
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
    logger.info(
        "training %s images %d held out %d steps %d, %d an epoch",
        category,
        len(training),
        len(held_out),
        steps,
        per_epoch,
    )

    readings: list[Tensor] = []
    evaluate_every = recipe.evaluate_every * per_epoch
    save_every = settings.save_every or evaluate_every
    progress = tqdm(desc=f"training {category}", initial=first, total=steps, unit="step", disable=None)
    model.train()
    for step in range(first + 1, steps + 1):
        seed_step(recipe.seed, accelerator.process_index, step)
        lr = schedule.get_last_lr()[0]
        loss, norm = update(
            reconstruction,
            next(batches),
            optimiser,
            accelerator,
            clip_norm=recipe.clip_norm,
            loss_weight=recipe.loss_weight,
        )
        schedule.step()
        readings.append(torch.stack([loss, norm, torch.full_like(loss, float(lr))]))
        progress.update()

        evaluates = step % evaluate_every == 0 and step < steps
        stops = any_process(stop.requested, accelerator, when=step % LOG_EVERY == 0)
        saves = step % save_every == 0 or stops
        if step % LOG_EVERY == 0 or evaluates or saves or step == steps:
            values = accelerator.reduce(torch.stack(readings), reduction="mean").tolist()
            readings.clear()
            progress.set_postfix(loss=f"{values[-1][0]:.4f}")
            if accelerator.is_main_process:
                interim = validation.interim(run.best_model) if evaluates else {}
                _log(run, step, values, interim)
                if saves:
                    save(run, step, recipe, state, accelerator)
            accelerator.wait_for_everyone()
            model.train()
        if stops:
            raise Stopped(
                f"stopped after step {step} of {category}; run the same command with --resume to go on"
            )
    progress.close()

    rows: list[dict[str, Any]] = []
    if accelerator.is_main_process:
        threshold = validation.threshold(held_out)
        evaluations = validation.final(threshold, run.maps if settings.maps else None)
        seconds = time.monotonic() - began
        rows = [report_row(evaluation, recipe, settings.weights, seconds) for evaluation in evaluations]
        validation.save(run.model, rows=rows, threshold=threshold)
    accelerator.wait_for_everyone()
    return rows


def check_inputs(recipe: Recipe, splits: Mapping[str, Split], settings: Settings) -> None:
    """Fail now and not after hours: weights that are missing, images and masks that cannot be used.

    Every image of every category is decoded once, which fills the cache.
    """
    create_trunk(recipe.backbone, settings.weights, strides=recipe.strides)
    cache = default_cache("images", enabled=settings.cache)
    preprocess = make_preprocess(recipe)
    records = [[*split.train, *split.test] for split in splits.values()]
    read_all(AnomalyDataset(both, preprocess, cache, memory_bytes=0) for both in records)


def start_from(model: UniAD, path: Path) -> None:
    """Fill a model from a model folder, or from a checkpoint of the authors; every entry must fit."""
    if path.is_file():
        fill(model, load_checkpoint(path).state, model.backbone.tag, where=str(path))
    else:
        load_strict(model, load_model(path, method="uniad")[1], where=str(path))


def _log(run: Run, step: int, values: Sequence[Sequence[float]], interim: Mapping[str, float]) -> None:
    """Write the readings of the steps up to `step`, and what was measured there."""
    for behind, (loss, norm, lr) in zip(range(len(values) - 1, -1, -1), values, strict=True):
        reading = {"loss": loss, "gradient_norm": norm, "lr": lr}
        run.log(step - behind, reading | (dict(interim) if behind == 0 else {}))
