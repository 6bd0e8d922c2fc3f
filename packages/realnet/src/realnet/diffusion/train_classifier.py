"""Training of the classifier that guides sampling: it names the category of noisy images."""

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.optim import Optimizer
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
from realnet.diffusion.optimiser import compiled, make_optimiser, place
from realnet.diffusion.process import Images, Process
from realnet.diffusion.recipes import ClassifierRecipe
from realnet.diffusion.schedule import make_schedule
from realnet.diffusion.settings import TrainSettings

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
    """Train one classifier on the images of all categories and save it.

    Args:
        recipe: every number.
        images: normal images by category, in the order of the class numbers.
        run: where metrics, resume state and models go.
        accelerator: device and processes.
        settings: weights, workers, cache, how often to save.
        stop: looked at after every step; if set, the state is saved and `Stopped` raised.

    Returns:
        No rows: the classifier has no score.
    """
    set_seed(recipe.seed)
    device = accelerator.device
    dataset = make_dataset(recipe, images, cache=settings.cache)
    labels = labels_of(dataset, list(images))
    per_epoch = batches_per_epoch(len(dataset), recipe.batch_size, world=accelerator.num_processes)
    steps = recipe.iterations or recipe.epochs * per_epoch

    classifier = place(
        store.start(recipe, len(images), settings.weights), device, channels_last=settings.channels_last
    )
    process = Process(
        make_schedule(recipe.timesteps, recipe.noise_schedule, rescale_times=recipe.rescale_times), device
    )
    optimiser = accelerator.prepare_optimizer(make_optimiser(classifier, recipe), device_placement=False)
    accuracy = Accuracy()
    state: dict[str, Stateful] = {"classifier": classifier, "optimiser": optimiser, "accuracy": accuracy}
    state["classes"] = Classes(list(images))
    first = restore(run, recipe, state, accelerator) if settings.resume else 0

    network = distribute(compiled(classifier) if settings.compile else classifier, accelerator)
    batches = training_batches(dataset, labels, recipe, accelerator, start=first, workers=settings.workers)
    logger.info("training on %s, %d steps, %d an epoch", describe(images), steps, per_epoch)

    readings: list[Tensor] = []
    keep_every = recipe.evaluate_every * per_epoch
    save_every = settings.save_every or keep_every
    progress = tqdm(desc="classifier", initial=first, total=steps, unit="step", disable=None)
    classifier.train()
    for step in range(first + 1, steps + 1):
        seed_step(recipe.seed, accelerator.process_index, step)
        clean, classes = next(batches)
        loss, norm, correct = update(
            network,
            process,
            clean,
            classes,
            torch.randn(clean.shape).to(device),
            torch.randint(process.steps, (len(clean),)).to(device),
            optimiser,
            accelerator,
            chunk_size=recipe.chunk_size,
            clip_norm=recipe.clip_norm,
        )
        readings.append(torch.stack([loss, norm, correct]))
        progress.update()

        ends_epoch = step % per_epoch == 0 or step == steps
        keeps = step % keep_every == 0 or step == steps
        stops = any_process(stop.requested, accelerator, when=step % LOG_EVERY == 0)
        saves = stops or step % save_every == 0
        if step % LOG_EVERY == 0 or ends_epoch or saves:
            values = accelerator.reduce(torch.stack(readings), reduction="mean").tolist()
            readings.clear()
            progress.set_postfix(loss=f"{values[-1][0]:.4f}")
            accuracy.add([share for *_, share in values])
            interim = {}
            if ends_epoch:
                epoch = math.ceil(step / per_epoch)
                interim = {"epoch_accuracy": accuracy.take()}
                logger.info("step %d epoch %d accuracy %.5f", step, epoch, interim["epoch_accuracy"])
            if accelerator.is_main_process:
                log(run, step, values, interim)
                if keeps and (step == steps or recipe.keep_epochs):
                    where = run.model if step == steps else run.epochs / str(epoch)
                    facts = {"step": step, "epoch": epoch, **interim}
                    store.save(where, classifier, recipe, list(images), facts)
                    store.keep_latest(run.epochs, recipe.keep_epochs)
                if saves and step < steps:
                    save(run, step, recipe, state, accelerator)
            accelerator.wait_for_everyone()
        if stops and step < steps:
            raise Stopped(f"stopped after step {step}; run the same command with --resume to go on")
    progress.close()

    if accelerator.is_main_process and settings.save_official is not None:
        facts = {"acc": interim["epoch_accuracy"]}
        store.save_official(settings.save_official, classifier, recipe, facts, epoch=epoch)
    accelerator.wait_for_everyone()
    return []


def update(
    network: nn.Module,
    process: Process,
    clean: Images,
    labels: Int64[Tensor, " batch"],
    noise: Images,
    times: Int64[Tensor, " batch"],
    optimiser: Optimizer,
    accelerator: Accelerator,
    *,
    chunk_size: int,
    clip_norm: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """One optimiser step; the loss before it, the gradients' norm before clipping, the share of hits.

    Args:
        network: what is trained.
        process: adds the noise.
        clean: images with values in [-1, 1].
        labels: their class numbers.
        noise: standard normal numbers.
        times: steps of the process.
        optimiser: over the network's parameters.
        accelerator: this process.
        chunk_size: images per pass through the network.
        clip_norm: largest norm of the gradients.
    """
    total, correct = torch.zeros(2, device=clean.device)
    optimiser.zero_grad(set_to_none=True)
    chunks = torch.arange(len(clean)).split(chunk_size)
    for part in chunks:
        is_last = part is chunks[-1]
        with nullcontext() if is_last else accelerator.no_sync(network):
            noisy = process.add_noise(clean[part], noise[part], times[part])
            with accelerator.autocast():
                logits = network(noisy, process.times[times[part]])
            loss = F.cross_entropy(logits.float(), labels[part], reduction="sum") / len(clean)
            accelerator.backward(loss)
        total += loss.detach()
        correct += (logits.detach().argmax(dim=1) == labels[part]).sum() / len(clean)
    norm = accelerator.clip_grad_norm_(network.parameters(), clip_norm)
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


def log(run: Run, step: int, values: Sequence[Sequence[float]], interim: Mapping[str, float]) -> None:
    """Write the readings of the steps up to `step`, and what was measured there."""
    for behind, (loss, norm, share) in zip(range(len(values) - 1, -1, -1), values, strict=True):
        reading = {"loss": loss, "gradient_norm": norm, "accuracy": share}
        run.log(step - behind, {**reading, **(interim if behind == 0 else {})})
