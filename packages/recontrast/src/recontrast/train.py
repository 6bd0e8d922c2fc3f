"""Training: one loop, in the order of time.

Iterations are counted from 0, as in the paper's schedules; a *step* in logs and files counts updates done.
"""

import logging
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from adcommon.data import DATASETS
from adcommon.data.loading import AnomalyDataset, train_batches
from adcommon.data.preprocess import Preprocess
from adcommon.data.readable import read_all
from adcommon.data.sources.splits import hold_out
from adcommon.errors import Stopped
from adcommon.evaluation.collect import collect
from adcommon.evaluation.threshold import Threshold, calibrate
from adcommon.io.cache import DiskCache, default_cache
from adcommon.io.files import plain
from adcommon.models.backbones import create_trunk, normalisation
from adcommon.models.checkpoint import save_model
from adcommon.results.card import model_card
from adcommon.training.devices import any_process, distribute, set_seed
from adcommon.training.resume import restore, save
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from adcommon.types.records import Record, Split
from recontrast.detector import ReContrastDetector
from recontrast.evaluate import evaluate, report_row
from recontrast.losses import mining_alpha
from recontrast.model import ReContrast, build
from recontrast.optimiser import holds_encoder, make_optimiser, reset, resets_optimiser, update
from recontrast.recipes import Recipe
from recontrast.resume import parts

logger = logging.getLogger(__name__)

PAPER = (
    "Guo, Lu, Jia, Zhang, Li: ReContrast: Domain-Specific Anomaly Detection via Contrastive Reconstruction, "
    "NeurIPS 2023, https://arxiv.org/abs/2306.02602"
)
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
    training, held_out = hold_out(normal, recipe.calibration_share, recipe.seed)
    if recipe.calibration_share and not held_out:
        logger.warning("no decision threshold: too few normal images (%d) to keep any for it", len(normal))

    model = build(recipe, weights=settings.weights, category=category)
    model = model.to(device).to(memory_format=layout)
    optimiser, schedule = make_optimiser(model, recipe)
    optimiser = accelerator.prepare_optimizer(optimiser, device_placement=False)
    state = parts(model, optimiser, schedule)
    first = restore(run, recipe, state, accelerator) if settings.resume else 0

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
    logger.info(
        "training %s images %d held out %d steps %d",
        category,
        len(training),
        len(held_out),
        recipe.iterations,
    )

    losses: list[Tensor] = []
    save_every = settings.save_every or recipe.evaluate_every
    progress = tqdm(
        desc=f"training {category}", initial=first, total=recipe.iterations, unit="step", disable=None
    )
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
                interim = _interim(model, preprocess, splits, recipe, settings, cache) if evaluates else {}
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
        detector = _detector(model, preprocess, recipe)
        threshold = _calibrate(detector, held_out, recipe, settings, cache)
        evaluations = evaluate(
            detector,
            {name: split.test for name, split in splits.items()},
            recipe,
            cache=cache,
            workers=settings.workers,
            eval_size=settings.eval_size,
            threshold=None if threshold is None else threshold.value,
            maps=run.maps if settings.maps else None,
        )
        seconds = time.monotonic() - began
        rows = [report_row(evaluation, recipe, settings.weights, seconds) for evaluation in evaluations]
        config = {
            "method": "recontrast",
            "dataset": recipe.dataset,
            "category": category,
            "categories": list(splits),
            "setting": "multi-class" if recipe.multiclass else "one-class",
            "recipe": plain(recipe),
            "backbone": recipe.backbone,
            "weights": settings.weights,
            "seed": recipe.seed,
            "preprocess": plain(preprocess),
            "threshold": plain(threshold),
            "metrics": rows,
        }
        save_model(run.model, tensors=model.state_dict(), config=config, card=_card(config, recipe))
    accelerator.wait_for_everyone()
    return rows


def check_inputs(recipe: Recipe, splits: Mapping[str, Split], settings: Settings) -> None:
    """Fail now and not after hours: weights that are missing, images and masks that cannot be used.

    Every image of every category is decoded once, which fills the cache.
    """
    create_trunk(recipe.backbone, settings.weights)
    cache = default_cache("images", enabled=settings.cache)
    preprocess = make_preprocess(recipe)
    records = [[*split.train, *split.test] for split in splits.values()]
    read_all(AnomalyDataset(both, preprocess, cache, memory_bytes=0) for both in records)


def make_preprocess(recipe: Recipe) -> Preprocess:
    """How training and test images are made: resize, crop, the backbone's own normalisation."""
    mean, std = normalisation(recipe.backbone)
    return Preprocess(
        image_size=recipe.image_size,
        crop_size=recipe.crop_size,
        mean=mean,
        std=std,
        mask_rule=recipe.mask_rule,
        upright=recipe.upright,
    )


def _detector(model: ReContrast, preprocess: Preprocess, recipe: Recipe) -> ReContrastDetector:
    """The model as it stands, put in evaluation mode."""
    return ReContrastDetector(
        model, preprocess, map_protocol=recipe.map_protocol, image_score=recipe.image_score
    )


def _interim(
    model: ReContrast,
    preprocess: Preprocess,
    splits: Mapping[str, Split],
    recipe: Recipe,
    settings: Settings,
    cache: DiskCache | None,
) -> dict[str, float]:
    """Test metrics in the middle of a training, for metrics.csv and the log; nothing is selected by them."""
    both = {0, 1}
    tests = {name: split.test for name, split in splits.items() if {r.label for r in split.test} == both}
    standard = evaluate(
        _detector(model, preprocess, recipe),
        tests,
        replace(recipe, protocol="standard"),
        cache=cache,
        workers=settings.workers,
    )
    values = {}
    for evaluation in standard:
        for metric in ("image_auroc", "pixel_auroc", "aupro"):
            if (value := getattr(evaluation, metric)) is not None:
                values[f"{evaluation.category}/{metric}"] = value
    logger.info("%s", "  ".join(f"{name} {100 * value:.2f}" for name, value in values.items()))
    return values


def _log(run: Run, step: int, losses: Sequence[float], interim: Mapping[str, float]) -> None:
    """Write the losses of the steps up to `step`, and what was measured there."""
    for behind, loss in zip(range(len(losses) - 1, -1, -1), losses, strict=True):
        run.log(step - behind, {"loss": loss} | (dict(interim) if behind == 0 else {}))


def _calibrate(
    detector: ReContrastDetector,
    held_out: Sequence[Record],
    recipe: Recipe,
    settings: Settings,
    cache: DiskCache | None,
) -> Threshold | None:
    """The decision threshold from normal images that training has not seen; None if none were held out."""
    if not held_out:
        return None
    dataset = AnomalyDataset(held_out, detector.preprocess, cache)
    scores = collect(detector, dataset, batch_size=recipe.test_batch_size, keep_maps=False)
    return calibrate(scores.image_scores, settings.false_alarm_rate)


def _card(config: Mapping[str, Any], recipe: Recipe) -> str:
    return model_card(
        config,
        title="ReContrast",
        paper=PAPER,
        data_notice=f"{DATASETS[recipe.dataset].title}: {DATASETS[recipe.dataset].licence}",
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    )
