"""Training: one loop, in the order of time.

A *step* is one update of adapter and heads; an *epoch* is a number of steps that the recipe names, not a pass
over the images.
"""

import itertools
import logging
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from adcommon.data import DATASETS
from adcommon.data.loading import AnomalyDataset
from adcommon.data.readable import read_all
from adcommon.errors import BadValue, Stopped
from adcommon.io.cache import default_cache
from adcommon.io.files import plain
from adcommon.models.checkpoint import load_model, load_strict, save_model
from adcommon.models.feature_store import FeatureStore
from adcommon.results.card import model_card
from adcommon.training.devices import any_process, distribute, set_seed
from adcommon.training.resume import restore, save
from adcommon.training.run import Run
from adcommon.training.stop import StopSignal
from adcommon.types.records import Record
from inctrl.backbone import make_backbone, make_preprocess
from inctrl.data import ReferenceDraw, balanced_indices, training_batches
from inctrl.detector import Trained
from inctrl.evaluate import FEATURE_BATCH, Outcome, evaluate, feature_store, report_row
from inctrl.model import InCTRL, trainable
from inctrl.optimiser import gather_text, make_optimiser, update
from inctrl.recipes import Recipe
from inctrl.settings import TrainSettings
from inctrl.sources import Target

logger = logging.getLogger(__name__)

LOG_EVERY = 25
"""Steps between readings of the loss; a reading waits for the device."""

PAPER = (
    "Zhu, Pang: Toward Generalist Anomaly Detection via In-context Residual Learning with Few-shot Sample "
    "Prompts, CVPR 2024, https://arxiv.org/abs/2403.06495"
)


def train(
    recipe: Recipe,
    shots: int,
    records: Sequence[Record],
    targets: Sequence[Target],
    run: Run,
    accelerator: Accelerator,
    settings: TrainSettings,
    stop: StopSignal,
) -> list[dict[str, Any]]:
    """Train one model on auxiliary images, save it, and evaluate it on categories it has not seen.

    Args:
        shots: references of each query.
        records: normal and anomalous images of the auxiliary dataset.
        targets: the categories to test on.
        run: where metrics, epochs, resume state, model and pictures go.
        settings: weights, cache, how often to save, what to write.
        stop: looked at after every step; if set, the state is saved and `Stopped` raised.

    Returns:
        Rows of the report, also stored with the model; on the main process only.
    """
    began = time.monotonic()
    if accelerator.num_processes > 1 and recipe.batch_size % (2 * accelerator.num_processes):
        raise BadValue(
            f"batch_size is {recipe.batch_size}; {accelerator.num_processes} processes share it equally, "
            f"half normal and half anomalous: expected a multiple of {2 * accelerator.num_processes}"
        )
    set_seed(recipe.seed)
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    preprocess = make_preprocess(recipe)
    backbone = make_backbone(recipe, settings.weights, device)
    text = backbone.text(record.category for record in records)
    model = InCTRL(backbone.tower.embed, backbone.patches).to(device)
    trained = Trained(model, backbone, preprocess, recipe, shots, settings.weights)
    digest = backbone.digest()

    optimiser = make_optimiser(trainable(model), recipe.lr, recipe.weight_decay)
    optimiser = accelerator.prepare_optimizer(optimiser, device_placement=False)
    state = {"model": model, "optimiser": optimiser}
    first = restore(run, recipe, state, accelerator) if settings.resume else 0

    memory = settings.memory_bytes()
    if recipe.cache_features:
        store = feature_store(backbone.tower, records, preprocess, cache=settings.cache, memory_bytes=memory)
    else:
        images = AnomalyDataset(records, preprocess, default_cache("images", enabled=settings.cache))
        store = FeatureStore(backbone.tower, images, FEATURE_BATCH, None, dtype=torch.float32, memory_bytes=0)
    references = ReferenceDraw(records, shots, recipe.seed, self_reference=recipe.self_reference)
    queries = query_indices([record.label for record in records], recipe, start=first)
    batches = training_batches(
        store, records, queries, references, device, start=first, rank=rank, world=world
    )
    network = distribute(model, accelerator)
    steps = recipe.epochs * recipe.steps_per_epoch
    logger.info("training %d-shot images %d steps %d", shots, len(records), steps)

    readings: list[Tensor] = []
    progress = tqdm(desc=f"training {shots}-shot", initial=first, total=steps, unit="step", disable=None)
    for step in range(first + 1, steps + 1):
        model.train()
        batch = next(batches)
        loss = update(
            network,
            batch,
            gather_text(text, batch.categories),
            optimiser,
            accelerator,
            shots=shots,
            order=recipe.batch_order,
            gamma=recipe.gamma,
            logits=recipe.loss_on == "logits",
        )
        readings.append(loss)
        progress.update()

        epoch, within = divmod(step, recipe.steps_per_epoch)
        evaluates = bool(recipe.evaluate_every) and not within and not epoch % recipe.evaluate_every
        stops = any_process(stop.requested, accelerator, when=step % LOG_EVERY == 0)
        saves = step % (settings.save_every or recipe.steps_per_epoch) == 0 or stops
        if step % LOG_EVERY == 0 or not within or saves or step == steps:
            losses = accelerator.reduce(torch.stack(readings), reduction="mean").tolist()
            readings.clear()
            progress.set_postfix(loss=f"{losses[-1]:.4f}")
            if accelerator.is_main_process:
                interim = _interim(trained, targets, settings) if evaluates and step < steps else {}
                for behind, value in zip(range(len(losses) - 1, -1, -1), losses, strict=True):
                    run.log(step - behind, {"loss": value} | (interim if behind == 0 else {}))
                if not within:
                    write_model(epoch_folder(run, epoch), trained, records, digest, epoch=epoch, rows=[])
                if saves:
                    save(run, step, recipe, state, accelerator)
            accelerator.wait_for_everyone()
        if stops:
            raise Stopped(
                f"stopped after step {step} of {shots}-shot; run the same command with --resume to go on"
            )
    progress.close()

    rows: list[dict[str, Any]] = []
    if accelerator.is_main_process:
        epoch = selected_epoch(recipe)
        _, tensors = load_model(epoch_folder(run, epoch), method="inctrl")
        load_strict(model, tensors, where=f"epoch {epoch}")
        maps = run.maps if settings.maps else None
        outcomes = list(_evaluate(trained, targets, settings, recipe.reference_seeds, maps))
        seconds = time.monotonic() - began
        rows = [report_row(outcome, trained, seconds) for outcome in outcomes]
        write_model(run.model, trained, records, digest, epoch=epoch, rows=rows)
    accelerator.wait_for_everyone()
    return rows


def query_indices(labels: Sequence[int], recipe: Recipe, *, start: int = 0) -> Iterator[list[int]]:
    """The queries of batch after batch; the batches of the reference's evaluations are drawn and passed over.

    Args:
        start: steps to pass over.
    """
    batches = balanced_indices(labels, recipe.batch_size, seed=recipe.seed)
    for step in itertools.count():
        if recipe.draw_evaluation and step and step % recipe.steps_per_epoch == 0:
            next(itertools.islice(batches, recipe.steps_per_epoch - 1, None))
        indices = next(batches)
        if step >= start:
            yield indices


def selected_epoch(recipe: Recipe) -> int:
    """The epoch whose weights are exported."""
    wanted = recipe.select_epoch or recipe.epochs
    if wanted > recipe.epochs:
        logger.warning("epoch %d was to be exported and %d were run: the last is", wanted, recipe.epochs)
    return min(wanted, recipe.epochs)


def epoch_folder(run: Run, epoch: int) -> Path:
    """Where the weights after an epoch, from 1, are kept."""
    return run.epochs / f"{epoch:03}"


def write_model(
    folder: Path,
    trained: Trained,
    records: Sequence[Record],
    digest: str,
    *,
    epoch: int,
    rows: list[dict[str, Any]],
) -> None:
    """Write a model folder: adapter and heads, and which frozen weights they belong to.

    Args:
        records: what was trained on.
        digest: of the frozen weights.
        epoch: that the weights are of.
        rows: of the report.
    """
    recipe = trained.recipe
    categories = list(dict.fromkeys(record.category for record in records))
    config = {
        "method": "inctrl",
        "dataset": recipe.is_trained_from,
        "category": "+".join(categories),
        "categories": categories,
        "setting": "few-shot",
        "recipe": plain(recipe),
        "shots": trained.shots,
        "epoch": epoch,
        "backbone": recipe.backbone,
        "weights": trained.weights,
        "frozen": digest,
        "seed": recipe.seed,
        "preprocess": plain(trained.preprocess),
        "threshold": None,
        "metrics": rows,
    }
    entry = DATASETS[recipe.is_trained_from]
    card = model_card(
        config,
        title="InCTRL",
        paper=PAPER,
        data_notice=f"{entry.title}: {entry.licence}",
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    )
    save_model(folder, tensors=trained.model.state_dict(), config=config, card=card)


def check_inputs(
    recipe: Recipe, records: Sequence[Record], targets: Sequence[Target], settings: TrainSettings
) -> None:
    """Fail now and not after hours: weights, references and images that cannot be used.

    Every image is decoded once, which fills the cache.
    """
    backbone = make_backbone(recipe, settings.weights)
    if recipe.batch_order == "reference" and len(set(backbone.tower.channels)) > 1:
        raise BadValue(
            f"batch_order reference mixes levels of equal width, those of '{recipe.backbone}' have "
            f"{backbone.tower.channels}; use --batch-order corrected"
        )
    for shots in recipe.shots:
        ReferenceDraw(records, shots, recipe.seed, self_reference=recipe.self_reference)
    cache = default_cache("images", enabled=settings.cache)
    preprocess = make_preprocess(recipe)
    groups = [records, *([*target.test, *target.normal] for target in targets)]
    read_all(AnomalyDataset(group, preprocess, cache, memory_bytes=0) for group in groups)


def _evaluate(
    trained: Trained,
    targets: Sequence[Target],
    settings: TrainSettings,
    seeds: Sequence[int],
    maps: Path | None = None,
) -> Iterator[Outcome]:
    return evaluate(
        trained,
        targets,
        shots=trained.shots,
        seeds=seeds,
        few_shot_dir=settings.few_shot_dir,
        batch_size=trained.recipe.test_batch_size,
        cache=settings.cache,
        memory_bytes=settings.memory_bytes(),
        eval_size=settings.eval_size,
        maps=maps,
    )


def _interim(trained: Trained, targets: Sequence[Target], settings: TrainSettings) -> dict[str, float]:
    """Image AUROC of each category with the first draw of references, in the middle of a training."""
    outcomes = _evaluate(trained, targets, settings, trained.recipe.reference_seeds[:1])
    values = {f"{out.target.folder}/image_auroc": out.evaluation.image_auroc for out in outcomes}
    logger.info("%s", "  ".join(f"{name} {100 * value:.2f}" for name, value in values.items()))
    return values
