"""Training (section 3 of the paper): one loop, in the order of time.

Iterations are counted from 0, as the paper's schedules do; a *step* in logs and files is the number of updates done.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from adcommon.backbones import normalisation
from adcommon.checkpoints import load_resume, save_model, save_resume
from adcommon.datasets.loading import AnomalyDataset, train_batches
from adcommon.datasets.splits import hold_out
from adcommon.disk_cache import DiskCache, default_cache
from adcommon.errors import BadValue
from adcommon.evaluation import collect
from adcommon.options import Settings
from adcommon.preprocess import Preprocess
from adcommon.records import Evaluation, Record, Split
from adcommon.runs import Run, StopSignal, Stopped
from adcommon.runtime import any_process, distribute, set_seed
from adcommon.threshold import Threshold, calibrate
from recontrast.detector import ReContrastDetector
from recontrast.evaluate import evaluate
from recontrast.losses import mining_alpha
from recontrast.model import ReContrast, build
from recontrast.optimiser import holds_encoder, make_optimiser, reset, resets_optimiser, update
from recontrast.recipes import Recipe

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
) -> list[Evaluation]:
    """Train one model on the normal images of `splits`, save it, and evaluate it on each category.

    Args:
        splits: by category: one for a one-class model, several for a multi-class one.
        run: where metrics, resume state, model and pictures go.
        settings: weights, workers, cache, how often to save, what to write.
        stop: looked at after every step; if set, the state is saved and `Stopped` raised.
    """
    set_seed(recipe.seed)
    device = accelerator.device
    category = "+".join(splits)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    preprocess = make_preprocess(recipe)
    cache = default_cache("images", enabled=settings.cache)
    normal = [record for split in splits.values() for record in split.train]
    training, held_out = hold_out(normal, recipe.calibration_share, recipe.seed)

    model = build(recipe, weights=settings.weights, category=category)
    model = model.to(device=device, memory_format=layout)
    optimiser, schedule = make_optimiser(model, recipe)
    optimiser = accelerator.prepare_optimizer(optimiser, device_placement=False)
    first = _restore(run, recipe, model, optimiser, schedule, accelerator) if settings.resume else 0

    detector = ReContrastDetector(
        model, preprocess, map_protocol=recipe.map_protocol, image_score=recipe.image_score
    )
    wrapped = distribute(model, accelerator, sync_batch_norm=recipe.sync_batch_norm)
    batches = train_batches(
        AnomalyDataset(training, preprocess, cache),
        recipe.batch_size,
        seed=recipe.seed,
        start=first,
        drop_last=recipe.drop_last,
        workers=settings.workers,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    logger.info("training %s images %d held out %d steps %d", category, len(training), len(held_out), recipe.iterations)

    losses: list[Tensor] = []
    save_every = settings.save_every or recipe.evaluate_every
    progress = tqdm(desc=f"training {category}", initial=first, total=recipe.iterations, unit="step", disable=None)
    model.train()
    for iteration in range(first, recipe.iterations):
        images = next(batches).images.to(device=device, memory_format=layout)
        alpha = mining_alpha(iteration, recipe.iterations, recipe.mining_ramp)
        hold = holds_encoder(recipe, iteration)
        losses.append(update(wrapped, images, optimiser, accelerator, alpha=alpha, hold_encoder=hold))
        schedule.step()
        if resets_optimiser(recipe, iteration):
            reset(optimiser)
        progress.update()

        step = iteration + 1
        evaluates = step % recipe.evaluate_every == 0 and step < recipe.iterations
        stops = any_process(stop.requested, accelerator, when=step % LOG_EVERY == 0)
        saves = step % save_every == 0 or stops
        if step % LOG_EVERY == 0 or evaluates or saves or step == recipe.iterations:
            values = accelerator.reduce(torch.stack(losses), reduction="mean").tolist()
            losses.clear()
            progress.set_postfix(loss=f"{values[-1]:.3f}")
            if accelerator.is_main_process:
                interim = _interim(detector, splits, settings, cache, device) if evaluates else {}
                _log(run, step, values, interim)
                if saves:
                    _save(run, step, recipe, model, optimiser, schedule, accelerator)
            accelerator.wait_for_everyone()
            model.train()
        if stops:
            raise Stopped(f"stopped after step {step} of {category}; run the same command with --resume to go on")
    progress.close()

    evaluations: list[Evaluation] = []
    if accelerator.is_main_process:
        threshold = _calibrate(detector, held_out, settings, cache, device)
        tests = {name: split.test for name, split in splits.items()}
        evaluations = evaluate(detector, tests, recipe, settings, device=device, maps=run.maps if settings.maps else None,
                               threshold=threshold)
        save_model(run.model, tensors=model.state_dict(), config=_config(recipe, category, preprocess, settings, threshold, evaluations), card=...)
    accelerator.wait_for_everyone()
    return evaluations
