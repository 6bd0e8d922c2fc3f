"""Training: one loop, in the order of time.

A *step* is one update of the reconstruction networks and the decoder; an *epoch* one pass over the training
images.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from adcommon.data.loading import AnomalyDataset
from adcommon.data.order import batches_per_epoch
from adcommon.data.readable import read_all
from adcommon.data.sources.splits import hold_out
from adcommon.errors import Stopped
from adcommon.io.cache import default_cache
from adcommon.models.feature_store import FeatureStore, cached_features
from adcommon.training.devices import any_process, distribute, set_seed
from adcommon.training.resume import restore, save
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from adcommon.types.records import Split
from realnet.detector import make_preprocess
from realnet.model import RealNet, build, build_backbone, parameter_counts
from realnet.network.afs import Pair, total_scores
from realnet.optimiser import make_optimiser, mixed_features, update
from realnet.recipes import Recipe
from realnet.synthesis.data import ItemBatch, TrainingItems, item_batches
from realnet.synthesis.items import make_items
from realnet.validation import Validation

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
        split: its training and test images.
        run: where metrics, resume state, models and pictures go.
        settings: weights, workers, cache, how often to save, what to write.
        stop: looked at after every step; if set, the state is saved and `Stopped` raised.

    Returns:
        Rows of the report, also stored with the models; on the main process only.
    """
    set_seed(recipe.seed)
    device = accelerator.device
    preprocess = make_preprocess(recipe)
    training, held_out = hold_out(split.train, recipe.calibration_share, recipe.seed)
    if recipe.calibration_share and not held_out:
        logger.warning(
            "no decision threshold: too few normal images (%d) to keep any for it", len(split.train)
        )
    per_epoch = batches_per_epoch(len(training), recipe.batch_size, world=accelerator.num_processes)
    steps = recipe.iterations or recipe.epochs * per_epoch

    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model = build(recipe, weights=settings.weights).to(device).to(memory_format=layout)
    validation = Validation(model, preprocess, category, split.test, recipe, settings)
    optimiser = accelerator.prepare_optimizer(make_optimiser(model, recipe), device_placement=False)
    state = {
        "afs": model.afs,
        "recon": model.recon,
        "rrs": model.rrs,
        "optimiser": optimiser,
        "validation": validation,
    }
    first = restore(run, recipe, state, accelerator) if settings.resume else 0

    dataset = AnomalyDataset(training, preprocess, default_cache("images", enabled=settings.cache))
    items = make_items(dataset, recipe, category, settings.root())
    clean = CleanMaps(model, dataset, keep=recipe.cache_features, cache=settings.cache)
    if first == 0:  # a resumed run has the channels that were chosen before its first step
        select_channels(model, items, clean, recipe, accelerator, workers=settings.workers)
    for name, count in parameter_counts(model).items():
        logger.info("%s parameters %d", name, count)
    on_several_gpus = device.type == "cuda" and accelerator.num_processes > 1
    network = distribute(
        model.trainable(), accelerator, sync_batch_norm=recipe.sync_batch_norm and on_several_gpus
    )
    if recipe.compile:
        network = torch.compile(network)  # type: ignore[assignment]
    batches = _batches(items, recipe, accelerator, workers=settings.workers, start=first)
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
        batch = next(batches)
        features, clean_features = mixed_features(
            model, clean(batch), batch.images.to(device), batch.anomalous.tolist()
        )
        masks = batch.masks.to(device)
        losses = update(network, features, clean_features, masks, optimiser, accelerator, recipe)
        readings.append(losses)
        progress.update()

        evaluates = step % evaluate_every == 0 and step < steps
        stops = any_process(stop.requested, accelerator, when=step % LOG_EVERY == 0)
        saves = step % save_every == 0 or stops
        if step % LOG_EVERY == 0 or evaluates or saves or step == steps:
            values = accelerator.reduce(torch.stack(readings), reduction="mean").tolist()
            readings.clear()
            progress.set_postfix(map=f"{values[-1][0]:.4f}", features=f"{values[-1][1]:.4f}")
            if accelerator.is_main_process:
                interim = validation.interim(step, run.best_model) if evaluates else {}
                _log(run, step, values, interim, recipe)
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
        rows = validation.final(
            steps,
            held_out,
            folder=run.model,
            best_folder=run.best_model,
            maps=run.maps if settings.maps else None,
        )
    accelerator.wait_for_everyone()
    return rows


class CleanMaps:
    """The backbone's maps of the clean images of a batch, each image's computed once where there is room."""

    def __init__(self, model: RealNet, dataset: AnomalyDataset, *, keep: bool, cache: bool) -> None:
        """Compute all of them now if they are to be kept.

        Args:
            dataset: the training images.
            keep: False computes them for every batch.
            cache: keep them on disk too, not in memory alone.
        """
        self._model = model
        self._device = next(model.parameters()).device
        self._store: FeatureStore | None = None
        if keep:
            images = AnomalyDataset(dataset.records, dataset.preprocess, dataset.cache, memory_bytes=0)
            disk = default_cache("features", enabled=cache)
            self._store = cached_features(model.backbone, images, FEATURE_BATCH, disk)

    def __call__(self, batch: ItemBatch) -> list[Float[Tensor, "batch _channels _height _width"]]:
        """One map per layer, on the model's device."""
        if self._store is None:
            return self._model.backbone(batch.clean.to(self._device))
        return [level.to(self._device, non_blocking=True) for level in self._store.batch(batch.indices)]


def select_channels(
    model: RealNet,
    items: TrainingItems,
    clean: CleanMaps,
    recipe: Recipe,
    accelerator: Accelerator,
    *,
    workers: int,
) -> None:
    """Choose the channels of every block, on batches that hold anomalies only; see `afs`."""
    device = accelerator.device

    def pairs() -> Iterator[Pair]:
        batches = _batches(items, recipe, accelerator, workers=workers, normals=False)
        chosen = islice(batches, recipe.afs_batches)
        for batch in tqdm(chosen, "choosing channels", recipe.afs_batches, unit="batch", disable=None):
            anomalous = model.levels(model.backbone(batch.images.to(device)))
            yield Pair(anomalous, model.levels(clean(batch)), batch.masks.to(device))

    scores = total_scores(model.afs, model.channels, pairs()) if model.afs.chooses(model.channels) else {}
    model.afs.keep_best({key: accelerator.reduce(total, reduction="mean") for key, total in scores.items()})


def check_inputs(recipe: Recipe, splits: Mapping[str, Split], settings: Settings) -> None:
    """Fail now and not after hours: what is missing of weights, images and sources of anomalies.

    Every image of every category is decoded once, which fills the cache.
    """
    build_backbone(recipe, weights=settings.weights)
    cache = default_cache("images", enabled=settings.cache)
    preprocess = make_preprocess(recipe)
    for category, split in splits.items():
        dataset = AnomalyDataset(split.train, preprocess, cache)
        make_items(dataset, recipe, category, settings.root())
    records = [[*split.train, *split.test] for split in splits.values()]
    read_all(AnomalyDataset(both, preprocess, cache, memory_bytes=0) for both in records)


def _batches(
    items: TrainingItems,
    recipe: Recipe,
    accelerator: Accelerator,
    *,
    workers: int,
    start: int = 0,
    normals: bool = True,
) -> Iterator[ItemBatch]:
    return item_batches(
        items,
        recipe.batch_size,
        seed=recipe.seed,
        start=start,
        workers=workers,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        normals=normals,
    )


def _log(
    run: Run,
    step: int,
    losses: Sequence[Sequence[float]],
    interim: Mapping[str, float],
    recipe: Recipe,
) -> None:
    """Write the losses of the steps up to `step`, and what was measured there."""
    for behind, (segmentation, features) in zip(range(len(losses) - 1, -1, -1), losses, strict=True):
        reading = {
            "loss": recipe.segmentation_weight * segmentation + recipe.feature_weight * features,
            "segmentation": segmentation,
            "features": features,
        }
        run.log(step - behind, reading | (dict(interim) if behind == 0 else {}))
