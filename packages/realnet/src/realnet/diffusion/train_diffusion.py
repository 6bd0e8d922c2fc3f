"""Training of the diffusion model on the normal images of all categories: one loop, in the order of time.

A *step* is one batch, whose gradient is added to those before it; every few steps make one update. The
average of the weights over the updates is what is validated and kept.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int64
from torch import Tensor, nn
from tqdm import tqdm

from adcommon.data.order import batches_per_epoch
from adcommon.errors import Stopped
from adcommon.training.devices import any_process, distribute, set_seed
from adcommon.training.resume import Stateful, restore, save
from adcommon.training.run import Run
from adcommon.training.stop import StopSignal
from adcommon.types.records import Record
from realnet.diffusion import store
from realnet.diffusion.data import Classes, describe, labels_of, make_dataset, training_batches
from realnet.diffusion.draws import seed_step
from realnet.diffusion.network.ema import Ema
from realnet.diffusion.optimiser import compiled, make_optimiser, place
from realnet.diffusion.process import Images, Process
from realnet.diffusion.recipes import DiffusionRecipe
from realnet.diffusion.schedule import make_schedule
from realnet.diffusion.settings import TrainSettings
from realnet.diffusion.validation import Validation

logger = logging.getLogger(__name__)

LOG_EVERY = 25
"""Steps between readings of the loss; a reading waits for the device."""


def train(
    recipe: DiffusionRecipe,
    images: Mapping[str, Sequence[Record]],
    run: Run,
    accelerator: Accelerator,
    settings: TrainSettings,
    stop: StopSignal,
) -> list[dict[str, Any]]:
    """Train one diffusion model on the images of all categories and save it.

    Args:
        recipe: every number.
        images: normal images by category, in the order of the class numbers.
        run: where metrics, resume state, models and pictures go.
        accelerator: device and processes.
        settings: weights, workers, cache, how often to save, what to write.
        stop: looked at after every step; if set, the state is saved after an update and `Stopped` is raised.

    Returns:
        No rows: a diffusion model has no score.
    """
    set_seed(recipe.seed)
    device = accelerator.device
    dataset = make_dataset(recipe, images, cache=settings.cache)
    labels = labels_of(dataset, list(images))
    per_epoch = batches_per_epoch(len(dataset), recipe.batch_size, world=accelerator.num_processes)
    steps = recipe.iterations or recipe.epochs * per_epoch

    unet = place(
        store.start(recipe, len(images), settings.weights), device, channels_last=settings.channels_last
    )
    ema = Ema(unet, recipe.ema_decay, warm_up=recipe.ema_warm_up)
    process = Process(
        make_schedule(recipe.timesteps, recipe.noise_schedule, rescale_times=recipe.rescale_times), device
    )
    validation = Validation(ema.network, dataset, labels, recipe, device)
    optimiser = accelerator.prepare_optimizer(make_optimiser(unet, recipe), device_placement=False)
    state: dict[str, Stateful] = {"unet": unet, "ema": ema, "optimiser": optimiser, "validation": validation}
    state["classes"] = Classes(list(images))
    first = restore(run, recipe, state, accelerator) if settings.resume else 0

    network = distribute(compiled(unet) if settings.compile else unet, accelerator)
    batches = training_batches(dataset, labels, recipe, accelerator, start=first, workers=settings.workers)
    logger.info("training on %s, %d steps, %d an epoch", describe(images), steps, per_epoch)

    readings: list[Tensor] = []
    evaluate_every = recipe.evaluate_every * per_epoch
    save_every = settings.save_every or evaluate_every
    stops = is_due = False
    progress = tqdm(desc="diffusion", initial=first, total=steps, unit="step", disable=None)
    unet.train()
    for step in range(first + 1, steps + 1):
        seed_step(recipe.seed, accelerator.process_index, step)
        clean, classes = next(batches)
        loss, norm = add_gradient(
            network,
            process,
            clean,
            classes,
            torch.randn(clean.shape).to(device),
            torch.randint(process.steps, (len(clean),)).to(device),
            accelerator,
            chunk_size=recipe.chunk_size,
            clip_norm=recipe.clip_norm,
        )
        # Faithful: steps are counted from 0, so that the first update is made of one batch alone.
        updates = (step - 1) % recipe.accumulate == 0
        if updates:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            ema.update()
        readings.append(torch.stack([loss, norm]))
        progress.update()

        evaluates = step % evaluate_every == 0 or step == steps
        stops = stops or any_process(stop.requested, accelerator, when=step % LOG_EVERY == 0)
        is_due = is_due or stops or step % save_every == 0
        saves = is_due and updates and step < steps  # gradients that wait for an update are not saved
        if step % LOG_EVERY == 0 or evaluates or saves:
            values = accelerator.reduce(torch.stack(readings), reduction="mean").tolist()
            readings.clear()
            progress.set_postfix(loss=f"{values[-1][0]:.4f}")
            interim = {}
            if evaluates:
                epoch = math.ceil(step / per_epoch)
                error = validation.measure(epoch, run.maps if settings.pictures else None, accelerator)
                is_best = validation.is_best(error)
                interim = {"rebuild_mse": error}
                logger.info("step %d epoch %d error of rebuilt images %.5f", step, epoch, error)
                if accelerator.is_main_process:
                    facts = {"step": step, "epoch": epoch, **interim}
                    keep(run, ema, recipe, list(images), facts, is_best=is_best, is_last=step == steps)
            if accelerator.is_main_process:
                log(run, step, values, interim)
                if saves:
                    save(run, step, recipe, state, accelerator)
            is_due = is_due and not saves
            accelerator.wait_for_everyone()
        if stops and saves:
            raise Stopped(f"stopped after step {step}; run the same command with --resume to go on")
    progress.close()

    if accelerator.is_main_process and settings.save_official is not None:
        store.save_official(settings.save_official, ema.network, recipe, {"loss": error}, epoch=epoch)
    accelerator.wait_for_everyone()
    return []


def add_gradient(
    network: nn.Module,
    process: Process,
    clean: Images,
    labels: Int64[Tensor, " batch"],
    noise: Images,
    times: Int64[Tensor, " batch"],
    accelerator: Accelerator,
    *,
    chunk_size: int,
    clip_norm: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Add a batch's gradient to those before it and clip the sum; the loss, and the sum's norm before that.

    Args:
        network: what is trained.
        process: adds the noise.
        clean: images with values in [-1, 1].
        labels: their class numbers.
        noise: standard normal numbers.
        times: steps of the process.
        accelerator: this process.
        chunk_size: images per pass through the network.
        clip_norm: largest norm of the sum.
    """
    total = torch.zeros((), device=clean.device)
    chunks = torch.arange(len(clean)).split(chunk_size)
    for part in chunks:
        is_last = part is chunks[-1]
        with nullcontext() if is_last else accelerator.no_sync(network):
            noisy = process.add_noise(clean[part], noise[part], times[part])
            with accelerator.autocast():
                output = network(noisy, process.times[times[part]], labels[part])
            losses = process.losses(output.float(), clean[part], noise[part], times[part])
            loss = losses.total.sum() / len(clean)
            accelerator.backward(loss)
        total += loss.detach()
    # Faithful: the sum is clipped after every batch, not once before the update.
    norm = accelerator.clip_grad_norm_(network.parameters(), clip_norm)
    return total, norm


def keep(
    run: Run,
    ema: Ema,
    recipe: DiffusionRecipe,
    categories: Sequence[str],
    facts: Mapping[str, Any],
    *,
    is_best: bool,
    is_last: bool,
) -> None:
    """Save the average as the final or an interim model, and as the best one if it is."""
    where = run.model if is_last else run.epochs / str(facts["epoch"])
    if is_last or recipe.keep_epochs:
        store.save(where, ema.network, recipe, categories, facts)
        store.keep_latest(run.epochs, recipe.keep_epochs)
    if is_best and recipe.keep_best:
        store.save(run.best_model, ema.network, recipe, categories, facts)


def log(run: Run, step: int, values: Sequence[Sequence[float]], interim: Mapping[str, float]) -> None:
    """Write the readings of the steps up to `step`, and what was measured there."""
    for behind, (loss, norm) in zip(range(len(values) - 1, -1, -1), values, strict=True):
        run.log(step - behind, {"loss": loss, "gradient_norm": norm, **(interim if behind == 0 else {})})
