"""Training of the picture decoder: features of the frozen backbone -> images; one decoder per category.

As in the reference it learns from the *test* images, good and defective: it has to be able to draw defects,
so that a picture without one shows that the reconstruction had lost it. It plays no part in any score.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from adcommon.data.loading import AnomalyDataset, train_batches
from adcommon.data.normalise import unnormalise
from adcommon.data.order import batches_per_epoch
from adcommon.io.cache import default_cache
from adcommon.models.checkpoint import save_trained
from adcommon.models.feature_store import cached_features
from adcommon.results.picture_names import names_of
from adcommon.training.devices import distribute, set_seed
from adcommon.training.resume import refuse_without_room, restore, save
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.training.steps import Readings, steps
from adcommon.training.stop import StopSignal
from adcommon.types.records import Record
from uniad.data import FEATURE_BATCH
from uniad.detector import make_preprocess
from uniad.evaluate import facts
from uniad.losses import image_mse
from uniad.model import initialise, make_backbone
from uniad.optimiser import make_optimiser
from uniad.pictures.checkpoint import METHOD
from uniad.pictures.decoder import VisDecoder
from uniad.pictures.drawing import write_below
from uniad.published import PAPER
from uniad.recipes import Recipe


def train_decoder(
    recipe: Recipe,
    category: str,
    records: Sequence[Record],
    run: Run,
    accelerator: Accelerator,
    settings: Settings,
    stop: StopSignal,
) -> list[dict[str, Any]]:
    """Train the decoder of one category and write its pictures, input above reconstruction.

    Args:
        records: images to learn to draw.
        run: where losses, resume state, model and pictures go.

    Returns:
        No rows: a decoder has no score.
    """
    set_seed(recipe.seed)
    device, world = accelerator.device, accelerator.num_processes
    preprocess = make_preprocess(recipe)
    backbone = make_backbone(recipe, settings.weights).to(device)
    decoder = VisDecoder(backbone.channels, recipe.out_stride)
    initialise(decoder, "normal")
    decoder = decoder.to(device)
    per_epoch = batches_per_epoch(len(records), recipe.batch_size, world=world)
    total = recipe.iterations or recipe.epochs * per_epoch
    optimiser, schedule = make_optimiser(decoder.parameters(), recipe, per_epoch)
    optimiser = accelerator.prepare_optimizer(optimiser, device_placement=False)
    state = {"decoder": decoder, "optimiser": optimiser, "schedule": schedule}
    refuse_without_room(run, decoder)
    first = restore(run, recipe, state, accelerator) if settings.resume else 0

    wrapped = distribute(decoder, accelerator, compiles=recipe.compile)
    dataset = AnomalyDataset(records, preprocess, default_cache("images", enabled=settings.cache))
    disk = default_cache("features", enabled=settings.cache)
    features = cached_features(
        backbone, dataset, FEATURE_BATCH, disk, workers=settings.workers, accelerator=accelerator
    )
    batches = train_batches(
        dataset,
        recipe.batch_size,
        seed=recipe.seed,
        start=first,
        workers=settings.workers,
        device=device,
        rank=accelerator.process_index,
        world=world,
    )
    readings = Readings(accelerator, decoder)
    decoder.train()
    for step in steps(
        first,
        total,
        stop,
        accelerator,
        what=category,
        save_every=settings.save_every or recipe.evaluate_every * per_epoch,
        trace=run.trace if settings.profile else None,
    ):
        batch = step.pace.draw(next, batches)
        loss, _ = update(
            wrapped,
            batch.images,
            step.pace.wait(features.batch, batch.indices)[0],
            optimiser,
            accelerator,
            clip_norm=recipe.clip_norm,
        )
        schedule.step()
        readings.add(loss=loss)

        if step.is_due:
            rows = readings.take(step)
            if accelerator.is_main_process:
                run.log_rows(step.number, rows, speed=step.pace.figures)
                if step.saves:
                    save(run, step.number, recipe, state, accelerator)
            accelerator.wait_for_everyone()

    if accelerator.is_main_process:
        save_trained(
            run.model,
            decoder.state_dict(),
            replace(
                PAPER,
                title="UniAD's picture decoder",
                use="    uv run uniad-vis-recon --model MODEL --decoder THIS_FOLDER",
            ),
            replace(facts(recipe, settings.weights), method=METHOD, setting="one-class"),
            recipe=recipe,
            preprocess=preprocess,
            categories=[category],
            learned_from=records,
        )
        decoder.eval()
        for index, (record, name) in enumerate(zip(records, names_of(records, ".jpg"), strict=True)):
            with torch.inference_mode():
                drawn = decoder(features.batch([index])[0])
            write_below(run.maps / name, record.image, preprocess, unnormalise(drawn, preprocess)[0])
    accelerator.wait_for_everyone()
    return []


def update(
    decoder: nn.Module,
    images: Float[Tensor, "batch 3 height width"],
    features: Float[Tensor, "batch channels grid_height grid_width"],
    optimiser: Optimizer,
    accelerator: Accelerator,
    *,
    clip_norm: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """One optimiser step; returns the loss before it and the norm of the gradients before clipping."""
    with accelerator.autocast():
        drawn = decoder(features)
    loss = image_mse(images, drawn.to(images.dtype))
    optimiser.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(decoder.parameters(), clip_norm or float("inf"))
    optimiser.step()
    return loss.detach(), norm
