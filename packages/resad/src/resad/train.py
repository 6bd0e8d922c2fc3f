"""Training: one loop, in the order of time.

Epochs and batches are counted from 0, as in the authors' files; a *step* in logs counts batches done.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from adcommon.data.readable import read_splits
from adcommon.io.cache import default_cache
from adcommon.models.checkpoint import save_trained
from adcommon.models.compute import Compute
from adcommon.models.sharing import as_on_main, meet
from adcommon.training.devices import set_seed
from adcommon.training.resume import Stateful, refuse_without_room, restore, save
from adcommon.training.run import Run
from adcommon.training.steps import refuse_diverged, steps
from adcommon.training.stop import StopSignal
from adcommon.types.records import Split
from resad.backbone import build_backbone, make_preprocess
from resad.calibrate import score_range
from resad.data import TrainingData
from resad.detector import FewShotModel
from resad.evaluate import evaluate, evaluate_paper, facts, report_rows
from resad.losses import EpochLosses, RunningBoundaries
from resad.model import ResAD
from resad.multishot.reporting import Reports
from resad.optimiser import Optimisers, untrained_levels, update
from resad.published import PAPER
from resad.recipes import Recipe
from resad.references import ReferenceSource, make_targets, refuse_missing
from resad.settings import TrainSettings

logger = logging.getLogger(__name__)


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
        unseen: the test dataset; only references and test images of it are looked at. May be empty.
        stop: looked at after every step; if set, the state is saved and `Stopped` raised.

    Returns:
        Rows of the report, also stored with the model; on the main process only.
    """
    began = time.monotonic()
    set_seed(recipe.seed)
    device, main = accelerator.device, accelerator.is_main_process
    compute = Compute.of(recipe, device)
    rank, world = accelerator.process_index, accelerator.num_processes
    preprocess = make_preprocess(recipe)
    backbone = build_backbone(recipe, settings.weights, device)
    cache = default_cache("images", enabled=settings.cache)
    memory = settings.memory_bytes() // 2  # the seen categories' share, and the unseen ones'
    reading: dict[str, Any] = {"cache": cache, "memory_bytes": memory, "workers": settings.workers}
    data = TrainingData(seen, backbone, preprocess, recipe, **reading)
    source = ReferenceSource(features=settings.test_ref_feature_dir, images=settings.few_shot_dir)
    made = make_targets(unseen, backbone, preprocess, recipe, source, compute=compute, **reading)
    targets = list(made)

    model = ResAD(list(backbone.channels), recipe, data.residual_scale()).to(device)
    if recipe.compile:
        model.compile_trained()
    optimisers = Optimisers(model, recipe)
    boundaries, losses = RunningBoundaries(recipe.feature_levels), EpochLosses()
    checkpoints = settings.checkpoints(run.folder.parent)
    reports = Reports(model, recipe, checkpoints, tables=settings.report, multishot=multishot)
    state: dict[str, Stateful] = {"model": model, "optimisers": optimisers, "boundaries": boundaries}
    state |= {"losses": losses, "reports": reports}
    refuse_without_room(run, model)
    first = restore(run, recipe, state, accelerator) if settings.resume else 0
    untrained = untrained_levels(data.grids.cells, recipe)
    plan = data.plan(world)
    logger.info(
        "training on %s (%s) images %d, then %d steps %d; testing on %s (%s)",
        *(recipe.train_dataset, ", ".join(seen), len(data.first_stage), len(data.second_stage), plan.steps),
        *(recipe.test_dataset, ", ".join(unseen)),
    )

    model.train()
    for step in steps(
        first,
        plan.steps,
        stop,
        accelerator,
        what=recipe.train_dataset,
        save_every=settings.save_every or 0,
        minutes=settings.minutes,
        trace=run.trace if settings.profile else None,
        ends_epoch=plan.ends_epoch,
    ):
        epoch, number = plan.place(step.number - 1)
        batch = step.pace.draw(data.batch, epoch, number, device, rank=rank, world=world)
        residuals, second = model.scaled(batch.residuals), plan.second_stage(epoch)
        lost = update(
            model, residuals, batch.masks, optimisers, boundaries, recipe, accelerator, second_stage=second
        )
        losses.add(lost)

        if step.is_due:
            rows = losses.take()
            step.pace.read()
            refuse_diverged(rows, step, model, accelerator)
            if main:
                run.log_rows(step.number, rows, speed=step.pace.figures)
            if step.ends_epoch:
                optimisers.end_epoch()
                if main:
                    tqdm.write(losses.line(epoch, recipe.epochs, imagebind=recipe.is_imagebind))
                losses.clear()
                if targets and recipe.evaluates_after(epoch):
                    as_on_main(model, accelerator)
                    paper = evaluate_paper(model, preprocess, targets, recipe, accelerator)
                    if main:
                        reports.write(paper, epoch)
            if main and (step.saves or (step.ends_epoch and not settings.save_every)):
                save(run, step.number, recipe, state, accelerator)
            meet(accelerator)
            model.train()

    as_on_main(model, accelerator)
    scale = score_range(model, data, recipe)
    measured = list(
        evaluate(
            FewShotModel(backbone, model, preprocess, scale, compute),
            targets,
            recipe,
            eval_size=settings.eval_size,
            metrics=settings.metrics,
            false_alarm_rate=settings.false_alarm_rate,
            maps=run.maps if settings.maps else None,
            accelerator=accelerator,
        )
    )
    origin = facts(recipe, settings.weights)
    report = report_rows(measured, origin, seconds=time.monotonic() - began)
    if main:
        if targets:
            reports.write(measured, recipe.epochs - 1)
            reports.analyse()
        save_trained(
            run.model,
            model.state_dict(),
            PAPER,
            origin,
            recipe=recipe,
            preprocess=preprocess,
            categories=list(unseen),
            trained_on=list(seen),
            learned_from=data.records,
            rows=report,
            own={
                "scale": scale,
                "residual_scale": model.residual_scale,
                "references": {target.category: target.names for target in targets},
                "untrained_levels": untrained,
            },
        )
    meet(accelerator)
    return report


def check_inputs(
    recipe: Recipe, seen: Mapping[str, Split], unseen: Mapping[str, Split], settings: TrainSettings
) -> None:
    """Fail now and not after hours: weights and references that are missing, images that cannot be used."""
    others = f"; not from {', '.join(unseen)}, whose normal images serve as references" if unseen else ""
    logger.info("learning from %s (%s)%s", recipe.train_dataset, ", ".join(seen), others)
    backbone, preprocess = build_backbone(recipe, settings.weights), make_preprocess(recipe)
    TrainingData(seen, backbone, preprocess, recipe, memory_bytes=0).plan()
    source = ReferenceSource(features=settings.test_ref_feature_dir, images=settings.few_shot_dir)
    refuse_missing(unseen, backbone, preprocess, recipe, source)
    cache = default_cache("images", enabled=settings.cache)
    learned = [record for split in seen.values() for record in (*split.train, *split.test)]
    read_splits([replace(split, train=[]) for split in unseen.values()], preprocess, cache, learned=learned)
