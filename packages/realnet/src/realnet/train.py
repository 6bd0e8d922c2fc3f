"""Training: one loop, in the order of time.

A *step* is one update of the reconstruction networks and the decoder; an *epoch* one pass over the training
images.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from adcommon.data.loading import AnomalyDataset, divide
from adcommon.data.order import batches_per_epoch
from adcommon.data.readable import read_splits
from adcommon.io.cache import default_cache
from adcommon.models.feature_store import FeatureStore, cached_features
from adcommon.models.sharing import meet
from adcommon.training.devices import distribute, set_seed
from adcommon.training.resume import refuse_without_room, restore, save
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.training.steps import Readings, steps
from adcommon.training.stop import StopSignal
from adcommon.types.records import Split
from realnet.detector import make_preprocess
from realnet.evaluate import Validation
from realnet.model import RealNet, build_backbone, parameter_counts
from realnet.network.afs import Pair, total_scores
from realnet.optimiser import clean_maps, make_optimiser, mixed_features, set_rate, update
from realnet.recipes import Recipe
from realnet.synthesis.data import ItemBatch, item_batches
from realnet.synthesis.items import make_items

logger = logging.getLogger(__name__)

LOG_EVERY = 20
"""Steps between readings of the losses; a reading waits for the device."""
FEATURE_BATCH = 16
"""Images per pass through the backbone when features are computed once."""


def train(
    recipe: Recipe,
    category: str,
    split: Split,
    run: Run,
    accelerator: Accelerator,
    settings: Settings,
    stop: StopSignal,
) -> list[dict[str, Any]]:
    """Train one model on the normal images of a category, save it, and evaluate it.

    Args:
        stop: looked at after every step; if set, the state is saved and `Stopped` raised.

    Returns:
        Rows of the report, also stored with the models; on the main process only.
    """
    set_seed(recipe.seed)
    device = accelerator.device
    preprocess = make_preprocess(recipe)
    cache = default_cache("images", enabled=settings.cache)
    training, held_out = divide(split.train, preprocess, share=recipe.calibration_share, seed=recipe.seed)
    dataset = AnomalyDataset(training, preprocess, cache)
    per_epoch = batches_per_epoch(len(training), recipe.batch_size, world=accelerator.num_processes)
    total = recipe.iterations or recipe.epochs * per_epoch

    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model = RealNet(recipe, weights=settings.weights).to(device).to(memory_format=layout)
    for name, count in parameter_counts(model).items():
        logger.info("%s parameters %d", name, count)
    validation = Validation(model, preprocess, split, recipe, settings, accelerator)
    optimiser = accelerator.prepare_optimizer(make_optimiser(model, recipe), device_placement=False)
    parts = {"afs": model.afs, "recon": model.recon, "rrs": model.rrs}
    state = {**parts, "optimiser": optimiser, "validation": validation}
    refuse_without_room(run, model.trainable())
    first = restore(run, recipe, state, accelerator) if settings.resume else 0

    items = make_items(dataset, recipe, category, settings.root())
    store = None  # of the frozen backbone's maps of the clean images
    if recipe.cache_features:
        images = AnomalyDataset(training, preprocess, cache, memory_bytes=0)
        disk = default_cache("features", enabled=settings.cache)
        store = cached_features(
            model.backbone, images, FEATURE_BATCH, disk, workers=settings.workers, accelerator=accelerator
        )
    draw_batches = partial(
        item_batches,
        items,
        recipe.batch_size,
        seed=recipe.seed,
        workers=settings.workers,
        device=device,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    if first == 0 and recipe.afs == "random":
        model.afs.keep_random(model.channels, recipe.seed)
    elif first == 0:  # a resumed run has the channels that were chosen before its first step
        anomalous = islice(draw_batches(normals=False), recipe.afs_batches)
        select_channels(model, anomalous, store, accelerator)

    on_several_gpus = device.type == "cuda" and accelerator.num_processes > 1
    network = distribute(
        model.trainable(),
        accelerator,
        sync_batch_norm=recipe.sync_batch_norm and on_several_gpus,
        compiles=recipe.compile,
    )
    batches = draw_batches(start=first)
    counts = (len(training), len(held_out), total, per_epoch)
    logger.info("training %s images %d held out %d steps %d, %d an epoch", category, *counts)

    readings = Readings(accelerator, model.trainable())
    model.train()
    for step in steps(
        first,
        total,
        stop,
        accelerator,
        what=category,
        save_every=settings.save_every or recipe.evaluate_every * per_epoch,
        minutes=settings.minutes,
        trace=run.trace if settings.profile else None,
        evaluate_every=recipe.evaluate_every * per_epoch,
        log_every=LOG_EVERY,
    ):
        batch = step.pace.draw(next, batches)
        clean = clean_maps(model, batch, store)
        features, wanted = mixed_features(model, clean, batch.images, batch.anomalous.tolist())
        set_rate(optimiser, recipe, step.number - 1, total)
        segmentation, distance = update(
            network, features, wanted, batch.masks, optimiser, accelerator, recipe
        )
        readings.add(segmentation=segmentation, features=distance)

        if step.is_due:
            rows = [{"loss": _weighted(row, recipe), **row} for row in readings.take(step)]
            interim = validation.interim(step.number, run) if step.evaluates else {}
            if accelerator.is_main_process:
                run.log_rows(step.number, rows, interim, step.pace.figures)
                if step.saves:
                    save(run, step.number, recipe, state, accelerator)
            meet(accelerator)
            model.train()

    report = validation.final(total, held_out, run)
    meet(accelerator)
    return report


def select_channels(
    model: RealNet, batches: Iterable[ItemBatch], store: FeatureStore | None, accelerator: Accelerator
) -> None:
    """Choose the channels of every block, on batches that hold anomalies only; section 3.2, see `afs`."""

    def pairs() -> Iterator[Pair]:
        for batch in tqdm(batches, "choosing channels", unit="batch", disable=None):
            anomalous = model.levels(model.backbone(batch.images))
            clean = model.levels(clean_maps(model, batch, store))
            yield Pair(anomalous, clean, batch.masks)

    scores = total_scores(model.afs, model.channels, pairs()) if model.afs.chooses(model.channels) else {}
    model.afs.keep_best({key: accelerator.reduce(total, reduction="mean") for key, total in scores.items()})


def check_inputs(recipe: Recipe, splits: Mapping[str, Split], settings: Settings) -> None:
    """Fail now and not after hours: what is missing of weights, images and sources of anomalies."""
    build_backbone(recipe, weights=settings.weights)
    cache = default_cache("images", enabled=settings.cache)
    preprocess = make_preprocess(recipe)
    for category, split in splits.items():
        make_items(AnomalyDataset(split.train, preprocess, cache), recipe, category, settings.root())
    read_splits(splits.values(), preprocess, cache)


def _weighted(losses: Mapping[str, float], recipe: Recipe) -> float:
    return recipe.segmentation_weight * losses["segmentation"] + recipe.feature_weight * losses["features"]
