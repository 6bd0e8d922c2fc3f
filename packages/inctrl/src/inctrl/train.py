"""Training: one loop, in the order of time.

Adapter and heads alone learn (sections 3.2 to 3.4); what the frozen towers say of an image is computed once.
A *step* is one update of adapter and heads; an *epoch* is a number of steps that the recipe names, not a pass
over the images.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from accelerate import Accelerator
from torch.optim import AdamW

from adcommon.data.readable import read_splits
from adcommon.errors import BadValue
from adcommon.evaluation.evaluate import interim_values
from adcommon.io.cache import default_cache
from adcommon.models.checkpoint import Trained, load_model, load_strict
from adcommon.models.compute import Compute
from adcommon.models.sharing import as_on_main, meet
from adcommon.training.devices import distribute, set_seed
from adcommon.training.resume import refuse_without_room, restore, save
from adcommon.training.run import Run
from adcommon.training.steps import Readings, steps
from adcommon.training.stop import StopSignal
from adcommon.types.records import Record, Split
from adcommon.types.values import multiple_near
from inctrl.backbone import feature_store, make_backbone, make_preprocess
from inctrl.batches import training_batches
from inctrl.checkpoint import Config, epoch_folder, selected_epoch
from inctrl.checkpoint import save as save_model
from inctrl.data import ReferenceDraw, query_indices
from inctrl.detector import FewShotModel
from inctrl.evaluate import Outcome, evaluate, facts, rows_of
from inctrl.model import build, trainable
from inctrl.optimiser import update
from inctrl.recipes import Recipe
from inctrl.references import refuse_missing
from inctrl.settings import TrainSettings

logger = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    shots: int,
    records: Sequence[Record],
    targets: Sequence[Split],
    run: Run,
    accelerator: Accelerator,
    settings: TrainSettings,
    stop: StopSignal,
) -> list[dict[str, Any]]:
    """Train one model on auxiliary images, save it, and evaluate it on categories it has not seen.

    Args:
        shots: references of each query.
        records: normal and anomalous images of the auxiliary dataset.
        stop: looked at after every step; if set, the state is saved and `Stopped` raised.

    Returns:
        Rows of the report, also stored with the model; on the main process only.
    """
    began = time.monotonic()
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    if world > 1 and recipe.batch_size % (2 * world):
        raise BadValue(
            f"batch_size is {recipe.batch_size}; {world} processes share it equally, half normal and half "
            f"anomalous: expected a multiple of {2 * world}, such as --batch-size "
            f"{multiple_near(recipe.batch_size, 2 * world)}"
        )
    set_seed(recipe.seed)
    backbone = make_backbone(recipe, settings.weights, device)
    preprocess = make_preprocess(recipe)
    model = build(recipe, backbone.tower.embed, backbone.patches).to(device)
    categories = tuple(dict.fromkeys(record.category for record in records))
    origin = facts(recipe, settings.weights, shots)
    few_shot = FewShotModel(model, backbone, preprocess, recipe.rotations, Compute.of(recipe, device))
    trained = Trained(few_shot, recipe, origin, categories)
    optimiser = AdamW(trainable(model), lr=recipe.lr, weight_decay=recipe.weight_decay)
    optimiser = accelerator.prepare_optimizer(optimiser, device_placement=False)
    state = {"model": model, "optimiser": optimiser}
    refuse_without_room(run, model)
    first = restore(run, recipe, state, accelerator) if settings.resume else 0

    store = feature_store(
        backbone.tower, records, preprocess, settings, accelerator, kept=recipe.cache_features
    )
    batches = training_batches(
        store,
        query_indices(records, recipe, start=first),
        ReferenceDraw(records, shots, recipe.seed, self_reference=recipe.self_reference),
        backbone.text,
        device,
        start=first,
        rank=rank,
        world=world,
    )
    size = recipe.test_batch_size
    test = partial(
        evaluate, trained, targets, settings, shots=shots, batch_size=size, accelerator=accelerator
    )
    network = distribute(model, accelerator, compiles=recipe.compile)
    total = recipe.epochs * recipe.steps_per_epoch
    logger.info("training %d-shot images %d steps %d", shots, len(records), total)

    readings = Readings(accelerator, model)
    reached = recipe.epochs
    model.train()
    for step in steps(
        first,
        total,
        stop,
        accelerator,
        what=f"{shots}-shot",
        save_every=settings.save_every or recipe.steps_per_epoch,
        minutes=settings.minutes,
        trace=run.trace if settings.profile else None,
        evaluate_every=recipe.evaluate_every * recipe.steps_per_epoch,
        ends_epoch=lambda number: number % recipe.steps_per_epoch == 0,
    ):
        loss = update(
            network,
            step.pace.draw(next, batches),
            optimiser,
            accelerator,
            order=recipe.batch_order,
            relative=recipe.relative,
            gamma=recipe.gamma,
            logits=recipe.loss_on == "logits",
            on_image="image" in recipe.parts,
        )
        readings.add(loss=loss)

        if step.is_due:
            rows = readings.take(step)
            interim = {}
            if step.evaluates:
                as_on_main(model, accelerator)
                interim = _interim(test(seeds=recipe.reference_seeds[:1]))
            if accelerator.is_main_process:
                run.log_rows(step.number, rows, interim, step.pace.figures)
                if step.ends_epoch or step.is_last:
                    reached = -(-step.number // recipe.steps_per_epoch)
                    save_model(epoch_folder(run, reached), trained, epoch=reached, learned_from=records)
                if step.saves:
                    save(run, step.number, recipe, state, accelerator)
            meet(accelerator)
            model.train()

    epoch = min(selected_epoch(recipe), reached)
    if accelerator.is_main_process:
        _, tensors = load_model(epoch_folder(run, epoch), Config, "inctrl")
        load_strict(model, tensors, where=f"epoch {epoch}")
    as_on_main(model, accelerator)
    outcomes = list(test(seeds=recipe.reference_seeds, maps=run.maps if settings.maps else None))
    report = rows_of(outcomes, trained, seconds=time.monotonic() - began)
    if accelerator.is_main_process:
        save_model(run.model, trained, epoch=epoch, learned_from=records, rows=report)
    meet(accelerator)
    return report


def _interim(outcomes: Iterable[Outcome]) -> dict[str, float]:
    """Test metrics in the middle of a training, with the first draw of references."""
    return interim_values([replace(outcome.evaluation, category=outcome.place) for outcome in outcomes])


def check_inputs(
    recipe: Recipe, records: Sequence[Record], targets: Sequence[Split], settings: TrainSettings
) -> None:
    """Fail now and not after hours: weights, references and images that cannot be used.

    Every image is decoded once, which fills the cache.
    """
    names = ", ".join(target.category for target in targets)
    others = f"; not from {names}, whose normal images serve as references" if targets else ""
    logger.info("learning from %d images of %s%s", len(records), recipe.is_trained_from, others)
    preprocess = make_preprocess(recipe)
    refuse_missing(targets, max(recipe.shots), settings.few_shot_dir, preprocess.size)
    next(query_indices(records, recipe))
    for shots in recipe.shots:
        ReferenceDraw(records, shots, recipe.seed, self_reference=recipe.self_reference)
    backbone = make_backbone(recipe, settings.weights)
    if recipe.batch_order == "reference" and len(set(backbone.tower.channels)) > 1:
        raise BadValue(
            f"batch_order reference mixes levels of equal width, those of '{recipe.backbone}' have "
            f"{backbone.tower.channels}; use --batch-order corrected"
        )
    cache = default_cache("images", enabled=settings.cache)
    read_splits(targets, preprocess, cache, learned=records)
