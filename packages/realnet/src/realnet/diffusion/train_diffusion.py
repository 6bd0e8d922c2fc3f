"""Training of the diffusion model on the normal images of all categories: one loop, in the order of time.

A *step* is one batch, whose gradient is added to those before it; every few steps make one update. The
average of the weights over the updates is what is validated and kept.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.training.resume import Stateful, save
from adcommon.training.run import Run
from adcommon.training.steps import Readings, steps
from adcommon.training.stop import StopSignal
from adcommon.types.records import Record
from realnet.diffusion.data import Classes, TrainingBatch
from realnet.diffusion.network.ema import Ema
from realnet.diffusion.process import Process
from realnet.diffusion.recipes import DiffusionRecipe
from realnet.diffusion.settings import TrainSettings
from realnet.diffusion.setup import Setup, keep
from realnet.diffusion.validation import Validation

logger = logging.getLogger(__name__)


def train(
    recipe: DiffusionRecipe,
    images: Mapping[str, Sequence[Record]],
    run: Run,
    accelerator: Accelerator,
    settings: TrainSettings,
    stop: StopSignal,
) -> list[dict[str, Any]]:
    """Train one diffusion model and save it; no rows for a report: it scores no images.

    Args:
        images: normal images by category, in the order of the class numbers.
        stop: looked at after every step; if set, the state is saved after an update and `Stopped` is raised.
    """
    setup = Setup(recipe, images, accelerator, settings)
    unet, per_epoch = setup.network, setup.per_epoch
    ema = Ema(unet, recipe.ema_decay, warm_up=recipe.ema_warm_up)
    validation = Validation(ema.network, setup.dataset, setup.labels, recipe, accelerator.device)
    state: dict[str, Stateful] = {
        "unet": unet,
        "ema": ema,
        "optimiser": setup.optimiser,
        "validation": validation,
        "classes": Classes(setup.categories),
    }
    first, network, batches = setup.begin(run, state, accelerator)

    def updates(step: int) -> bool:
        # Faithful: steps are counted from 0, so that the first update is made of one batch alone.
        return (step - 1) % recipe.accumulate == 0

    readings = Readings(accelerator, unet)
    unet.train()
    for step in steps(
        first,
        setup.total,
        stop,
        accelerator,
        what="the diffusion model",
        save_every=settings.save_every or recipe.evaluate_every * per_epoch,
        evaluate_every=recipe.evaluate_every * per_epoch,
        rests=updates,
        trace=run.trace if settings.profile else None,
    ):
        batch = step.pace.draw(next, batches)
        loss, norm = add_gradient(network, setup.process, batch, accelerator, recipe)
        if updates(step.number):
            setup.optimiser.step()
            setup.optimiser.zero_grad(set_to_none=True)
            ema.update()
        readings.add(loss=loss, gradient_norm=norm)

        if step.is_due:
            rows, interim = readings.take(step), {}
            if step.evaluates or step.is_last:
                epoch = math.ceil(step.number / per_epoch)
                error = validation.measure(epoch, run.maps if settings.pictures else None, accelerator)
                is_best = validation.is_best(error) and recipe.keep_best
                interim = {"rebuild_mse": error}
                logger.info("step %d epoch %d error of rebuilt images %.5f", step.number, epoch, error)
                if accelerator.is_main_process:
                    reached = {"step": step.number, "epoch": epoch, **interim}
                    keep(setup, run, ema.network, reached, is_best=is_best, is_last=step.is_last)
            if accelerator.is_main_process:
                run.log_rows(step.number, rows, interim, step.pace.figures)
                if step.saves:
                    save(run, step.number, recipe, state, accelerator)
            accelerator.wait_for_everyone()
    return []


def add_gradient(
    network: nn.Module,
    process: Process,
    batch: TrainingBatch,
    accelerator: Accelerator,
    recipe: DiffusionRecipe,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Add a batch's gradient to those before it and clip the sum; the loss, and the norm before that."""
    total = torch.zeros((), device=batch.clean.device)
    for part in batch.parts(recipe.chunk_size, network, accelerator):
        noisy = process.add_noise(part.clean, part.noise, part.steps)
        with accelerator.autocast():
            output = network(noisy, process.times[part.steps], part.labels)
        losses = process.losses(output.float(), part.clean, part.noise, part.steps)
        loss = losses.total.sum() / len(batch.clean)
        accelerator.backward(loss)
        total += loss.detach()
    # Faithful: the sum is clipped after every batch, not once before the update.
    norm = accelerator.clip_grad_norm_(network.parameters(), recipe.clip_norm)
    return total, norm
