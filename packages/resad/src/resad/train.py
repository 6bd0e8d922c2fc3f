"""Training: one loop, in the order of time.

Epochs and batches are counted from 0, as in the authors' files; a *step* in logs counts batches done.
"""

import logging
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from adcommon.data import DATASETS
from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.data.readable import read_all
from adcommon.errors import Stopped
from adcommon.io.cache import default_cache
from adcommon.io.files import plain
from adcommon.models.checkpoint import save_model
from adcommon.results.card import model_card
from adcommon.training.devices import any_process, set_seed
from adcommon.training.run import Run
from adcommon.training.stop import StopSignal
from adcommon.types.records import Evaluation, Split
from resad.backbone import build_backbone, make_preprocess
from resad.calibrate import calibrate_model
from resad.data import TrainingData
from resad.epoch import EpochLosses
from resad.evaluate import PaperScores, evaluate, paper_scores, report_row
from resad.losses import RunningBoundaries
from resad.model import ResAD
from resad.multishot.multishot import write_analyses
from resad.multishot.reporting import report_evaluation
from resad.optimiser import Optimisers, StepLosses, untrained_levels, update
from resad.recipes import Recipe
from resad.resume import Progress, restore, save
from resad.scoring import Outcome, score_target
from resad.settings import TrainSettings
from resad.targets import ReferenceSource, Target, make_targets

logger = logging.getLogger(__name__)

PAPER = (
    "Yao, Chen, Gao, Zhai, Zhang: ResAD: A Simple Framework for Class Generalizable Anomaly Detection, "
    "NeurIPS 2024, https://arxiv.org/abs/2410.20047"
)
LOG_EVERY = 25
"""Steps between readings of the losses; a reading waits for the device."""


def train(
    recipe: Recipe,
    seen: Mapping[str, Split],
    unseen: Mapping[str, Split],
    run: Run,
    accelerator: Accelerator,
    settings: TrainSettings,
    stop: StopSignal,
    *,
    multishot: bool = False,
) -> list[dict[str, Any]]:
    """Train one model on the seen categories, save it, and evaluate it on each unseen one.

    Args:
        seen: the training dataset; its test images take part in stage 2.
        unseen: the test dataset; only references and test images of it are looked at.
        run: where metrics, resume state, model and pictures go.
        settings: weights, references, cache, how often to save, what to write.
        stop: looked at after every step; if set, the state is saved and `Stopped` raised.
        multishot: write the extension's folders after every evaluation.

    Returns:
        Rows of the report, also stored with the model; on the main process only.
    """
    began = time.monotonic()
    set_seed(recipe.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = recipe.tf32
    device, main = accelerator.device, accelerator.is_main_process
    rank, world = accelerator.process_index, accelerator.num_processes
    preprocess = make_preprocess(recipe)
    backbone = build_backbone(recipe, settings.weights, device)
    cache = default_cache("images", enabled=settings.cache)
    memory_bytes = settings.memory_bytes() // 2
    data = TrainingData(seen, backbone, preprocess, recipe, cache=cache, memory_bytes=memory_bytes)
    source = ReferenceSource(features=settings.test_ref_feature_dir, images=settings.few_shot_dir)
    targets = list(
        make_targets(unseen, backbone, preprocess, recipe, source, cache=cache, memory_bytes=memory_bytes)
        if main
        else ()
    )

    residual_scale = data.residual_scale() if recipe.scale_residuals else None
    model = ResAD(list(backbone.channels), recipe, residual_scale).to(device)
    optimisers = Optimisers(model, recipe)
    boundaries = RunningBoundaries(recipe.feature_levels)
    plan = data.plan(world)
    progress = Progress(optimisers, boundaries, EpochLosses())
    first = restore(run, recipe, model, progress, accelerator) if settings.resume else 0
    if levels := untrained_levels(list(data.grids.cells), recipe, recipe.batch_size):
        largest = min(data.grids.cells[level - 1] for level in levels) * recipe.batch_size
        logger.warning(
            "the flows of level %s never train: a step has fewer rows than --flow_batch %d, and they keep "
            "their random start; %d or less trains all of them",
            ", ".join(map(str, levels)),
            recipe.flow_batch,
            largest,
        )
    logger.info(
        "training on %s (%s) images %d, then %d steps %d; testing on %s (%s)",
        recipe.train_dataset,
        ", ".join(seen),
        len(data.first_stage),
        len(data.second_stage),
        plan.steps,
        recipe.test_dataset,
        ", ".join(unseen),
    )

    report = partial(
        report_evaluation,
        model=model,
        recipe=recipe,
        checkpoints=settings.checkpoints(),
        tables=settings.report,
        multishot=multishot,
    )
    pending: list[StepLosses] = []
    bar = tqdm(desc="training", initial=first, total=plan.steps, unit="step", disable=None)
    for step in range(first, plan.steps):
        epoch, number = plan.place(step)
        model.train()
        batch = data.batch(epoch, number, device, rank=rank, world=world)
        residuals = [
            scale * level for scale, level in zip(model.residual_scale, batch.residuals, strict=True)
        ]
        pending.append(
            update(
                model,
                residuals,
                batch.masks,
                optimisers,
                boundaries,
                recipe,
                accelerator,
                second_stage=plan.second_stage(epoch),
            )
        )
        bar.update()

        done = step + 1
        ends = number == plan.length(epoch) - 1
        stops = any_process(stop.requested, accelerator, when=done % LOG_EVERY == 0 or ends)
        saves = stops or (done % settings.save_every == 0 if settings.save_every else ends)
        if done % LOG_EVERY == 0 or ends or saves:
            rows = progress.losses.add(pending)
            if main:
                for behind, row in zip(range(len(rows) - 1, -1, -1), rows, strict=True):
                    run.log(done - behind, row)
            pending.clear()
        if ends:
            optimisers.end_epoch()
            if main:
                tqdm.write(progress.losses.line(epoch, recipe.epochs, imagebind=recipe.is_imagebind))
            progress.losses = EpochLosses()
            last = epoch == recipe.epochs - 1
            if main and not last and recipe.eval_freq and (epoch + 1) % recipe.eval_freq == 0:
                scored = _interim(model, preprocess, targets, recipe)
                progress.best = report(scored, epoch, progress.best)
        if main and saves:
            save(run, done, recipe, model, progress, accelerator)
        accelerator.wait_for_everyone()
        if stops:
            raise Stopped(f"stopped after step {done}; run the same command with --resume to go on")
    bar.close()

    results: list[dict[str, Any]] = []
    if main:
        scale, threshold = calibrate_model(model, data, recipe, settings.false_alarm_rate)
        scored = []
        measured: list[tuple[Outcome, list[Evaluation]]] = []
        for outcome, evaluations, paper in evaluate(
            model,
            preprocess,
            targets,
            recipe,
            scale,
            eval_size=settings.eval_size,
            thresholds=None if threshold is None else {max(recipe.shots): threshold.value},
            maps=run.maps if settings.maps else None,
        ):
            scored.append((outcome, paper))
            measured.append((outcome, evaluations))
        report(scored, recipe.epochs - 1, progress.best)
        if multishot:
            for picture in write_analyses(settings.checkpoints(), recipe):
                logger.info("drew %s", picture)
        seconds = time.monotonic() - began
        results = [
            report_row(evaluation, outcome, recipe, settings.weights, seconds)
            for outcome, evaluations in measured
            for evaluation in evaluations
        ]
        config = {
            "method": "resad",
            "dataset": recipe.test_dataset,
            "category": "+".join(seen),
            "categories": list(unseen),
            "setting": "few-shot",
            "recipe": plain(recipe),
            "backbone": recipe.backbone,
            "weights": settings.weights,
            "seed": recipe.seed,
            "preprocess": plain(preprocess),
            "scale": plain(scale),
            "residual_scale": list(model.residual_scale),
            "threshold": plain(threshold),
            "references": {
                target.category: [str(name.resolve()) for name in target.draws[0].references.names]
                for target in targets
            },
            "untrained_levels": levels,
            "metrics": results,
        }
        save_model(run.model, tensors=model.state_dict(), config=config, card=_card(config, recipe))
    accelerator.wait_for_everyone()
    return results


def check_inputs(
    recipe: Recipe, seen: Mapping[str, Split], unseen: Mapping[str, Split], settings: TrainSettings
) -> None:
    """Fail now and not after hours: weights and references that are missing, images that cannot be used.

    Every image is decoded once, which fills the cache.
    """
    backbone = build_backbone(recipe, settings.weights)
    preprocess = make_preprocess(recipe)
    TrainingData(seen, backbone, preprocess, recipe, memory_bytes=0).plan()
    cache = default_cache("images", enabled=settings.cache)
    records = [[*split.train, *split.test] for split in seen.values()]
    records += [split.test for split in unseen.values()]
    read_all(AnomalyDataset(part, preprocess, cache, memory_bytes=0) for part in records)


def _interim(
    model: ResAD, preprocess: Preprocess, targets: Sequence[Target], recipe: Recipe
) -> list[tuple[Outcome, PaperScores]]:
    """The paper's scores in the middle of a training."""
    return [
        (outcome, paper_scores(outcome, target, preprocess, pro=recipe.pro))
        for target in targets
        for outcome in score_target(model, target, recipe)
    ]


def _card(config: Mapping[str, Any], recipe: Recipe) -> str:
    return model_card(
        config,
        title="ResAD",
        paper=PAPER,
        data_notice=f"{DATASETS[recipe.train_dataset].title}: {DATASETS[recipe.train_dataset].licence}",
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    )
