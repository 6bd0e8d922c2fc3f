"""Training of the classifier that guides sampling: it names the category of noisy images."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from adcommon.training.resume import Stateful, save
from adcommon.training.run import Run
from adcommon.training.steps import Readings, steps
from adcommon.training.stop import StopSignal
from adcommon.types.records import Record
from realnet.diffusion.data import Classes, TrainingBatch
from realnet.diffusion.process import Process
from realnet.diffusion.recipes import ClassifierRecipe
from realnet.diffusion.settings import TrainSettings
from realnet.diffusion.setup import Setup, keep

logger = logging.getLogger(__name__)

LOG_EVERY = 20
"""Steps between readings of the loss; a reading waits for the device."""


def train(
    recipe: ClassifierRecipe,
    images: Mapping[str, Sequence[Record]],
    run: Run,
    accelerator: Accelerator,
    settings: TrainSettings,
    stop: StopSignal,
) -> list[dict[str, Any]]:
    """Train one classifier and save it; no rows for a report: it scores no images.

    Args:
        images: normal images by category, in the order of the class numbers.
        stop: looked at after every step; if set, the state is saved and `Stopped` raised.
    """
    setup = Setup(recipe, images, accelerator, settings)
    classifier, per_epoch = setup.network, setup.per_epoch
    accuracy = Accuracy()
    state: dict[str, Stateful] = {
        "classifier": classifier,
        "optimiser": setup.optimiser,
        "accuracy": accuracy,
        "classes": Classes(setup.categories),
    }
    first, network, batches = setup.begin(run, state, accelerator)

    readings = Readings(accelerator, classifier)
    classifier.train()
    for step in steps(
        first,
        setup.total,
        stop,
        accelerator,
        what="the classifier",
        save_every=settings.save_every or recipe.evaluate_every * per_epoch,
        evaluate_every=recipe.evaluate_every * per_epoch,
        log_every=LOG_EVERY,
        ends_epoch=lambda number: number % per_epoch == 0,
        trace=run.trace if settings.profile else None,
    ):
        batch = step.pace.draw(next, batches)
        loss, norm, correct = update(network, setup.process, batch, setup.optimiser, accelerator, recipe)
        readings.add(loss=loss, gradient_norm=norm, accuracy=correct)

        if step.is_due:
            rows, interim = readings.take(step), {}
            accuracy.add([row["accuracy"] for row in rows])
            epoch = math.ceil(step.number / per_epoch)
            if step.ends_epoch or step.is_last:
                interim = {"epoch_accuracy": accuracy.take()}
                logger.info("step %d epoch %d accuracy %.5f", step.number, epoch, interim["epoch_accuracy"])
            if accelerator.is_main_process:
                run.log_rows(step.number, rows, interim, step.pace.figures)
                if step.evaluates or step.is_last:
                    reached = {"step": step.number, "epoch": epoch, **interim}
                    keep(setup, run, classifier, reached, is_last=step.is_last)
                if step.saves:
                    save(run, step.number, recipe, state, accelerator)
            accelerator.wait_for_everyone()
    return []


def update(
    network: nn.Module,
    process: Process,
    batch: TrainingBatch,
    optimiser: Optimizer,
    accelerator: Accelerator,
    recipe: ClassifierRecipe,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """One optimiser step; the loss before it, the gradients' norm before clipping, the share of hits."""
    total, correct = torch.zeros(2, device=batch.clean.device)
    optimiser.zero_grad(set_to_none=True)
    for part in batch.parts(recipe.chunk_size, network, accelerator):
        noisy = process.add_noise(part.clean, part.noise, part.steps)
        with accelerator.autocast():
            logits = network(noisy, process.times[part.steps])
        loss = F.cross_entropy(logits.float(), part.labels, reduction="sum") / len(batch.clean)
        accelerator.backward(loss)
        total += loss.detach()
        correct += (logits.detach().argmax(dim=1) == part.labels).sum() / len(batch.clean)
    norm = accelerator.clip_grad_norm_(network.parameters(), recipe.clip_norm)
    optimiser.step()
    return total, norm, correct


class Accuracy:
    """Mean share of right answers over the batches of an epoch, also of one that was interrupted."""

    def __init__(self) -> None:
        """No batch yet."""
        self.total, self.batches = 0.0, 0

    def add(self, shares: Sequence[float]) -> None:
        """Count batches."""
        self.total += sum(shares)
        self.batches += len(shares)

    def take(self) -> float:
        """The mean; the next epoch begins."""
        mean = self.total / self.batches
        self.total, self.batches = 0.0, 0
        return mean

    def state_dict(self) -> dict[str, Any]:
        """What was counted."""
        return {"total": self.total, "batches": self.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.total, self.batches = state_dict["total"], state_dict["batches"]
