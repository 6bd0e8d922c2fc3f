"""What the trainings of both networks begin with and what they keep; a network made ready on a device."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Adam

from adcommon.data.order import batches_per_epoch
from adcommon.data.readable import read_all
from adcommon.io.files import refuse_unwritable
from adcommon.training.devices import distribute, set_seed
from adcommon.training.resume import Stateful, refuse_without_room, restore
from adcommon.training.run import Run
from adcommon.types.records import Record
from realnet.diffusion import store
from realnet.diffusion.base_recipe import TrainingRecipe
from realnet.diffusion.compat.official import save_checkpoint
from realnet.diffusion.data import TrainingBatch, labels_of, make_dataset, training_batches
from realnet.diffusion.process import make_process
from realnet.diffusion.schedule import make_schedule
from realnet.diffusion.settings import TrainSettings

logger = logging.getLogger(__name__)


class Setup:
    """What a training begins with, before a stopped one is set back to where it was."""

    def __init__(
        self,
        recipe: TrainingRecipe,
        images: Mapping[str, Sequence[Record]],
        accelerator: Accelerator,
        settings: TrainSettings,
    ) -> None:
        """Seed everything, and make what a training needs that learns these images, by category."""
        set_seed(recipe.seed)
        self.recipe, self.settings = recipe, settings
        self.categories = list(images)
        """In the order of their class numbers."""
        self.dataset = make_dataset(recipe, images, cache=settings.cache)
        self.labels = labels_of(self.dataset, self.categories)
        self.per_epoch = batches_per_epoch(
            len(self.dataset), recipe.batch_size, world=accelerator.num_processes
        )
        self.total = recipe.iterations or recipe.epochs * self.per_epoch
        """Steps of the training."""
        origin = store.origin(recipe, settings.weights)
        self.weights = str(origin or "random")
        """What the network starts from."""
        begun = store.start(recipe, len(images), origin)
        self.network = place(begun, accelerator.device, channels_last=recipe.channels_last)
        """As it is stored: neither compiled nor wrapped."""
        self.process = make_process(recipe, accelerator.device)
        self.optimiser = accelerator.prepare_optimizer(
            make_optimiser(self.network, recipe), device_placement=False
        )
        counts = " ".join(f"{category}:{len(records)}" for category, records in images.items())
        logger.info("training on %s, %d steps, %d an epoch", counts, self.total, self.per_epoch)

    def begin(
        self, run: Run, parts: Mapping[str, Stateful], accelerator: Accelerator
    ) -> tuple[int, nn.Module, Iterator[TrainingBatch]]:
        """Set a stopped training back to where it was.

        Returns:
            The steps it had done, the network as the loop calls it (compiled if it is to be, its gradients
            shared by processes), and the batches from there on.
        """
        refuse_without_room(run, self.network)
        first = restore(run, self.recipe, parts, accelerator) if self.settings.resume else 0
        batches = training_batches(
            self.dataset, self.labels, self.recipe, accelerator, start=first, workers=self.settings.workers
        )
        return first, distribute(self.network, accelerator, compiles=self.recipe.compile), batches


def keep(
    setup: Setup,
    run: Run,
    network: nn.Module,
    state: Mapping[str, Any],
    *,
    is_best: bool = False,
    is_last: bool,
) -> None:
    """Save a network as the final model or an interim one, and as the best if it is; see `store.save`."""
    recipe = setup.recipe
    folders = [run.best_model] if is_best else []
    if is_last or recipe.keep_epochs:
        folders.append(run.model if is_last else run.epochs / str(state["epoch"]))
    for folder in folders:
        store.save(folder, network, recipe, setup.categories, setup.weights, state)
    keep_latest(run.epochs, recipe.keep_epochs)
    if is_last and setup.settings.save_official is not None:
        save_checkpoint(setup.settings.save_official, network, recipe, state)


def keep_latest(folder: Path, count: int) -> None:
    """Delete all but the latest `count` of the interim models in a folder, which are named by their epoch."""
    kept = sorted((path for path in folder.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))
    for path in kept[: max(len(kept) - count, 0)]:
        shutil.rmtree(path)


def check_inputs(
    recipe: TrainingRecipe, images: Mapping[str, Sequence[Record]], settings: TrainSettings
) -> None:
    """Fail now and not after hours on a schedule that is unknown or an image that cannot be decoded."""
    refuse_unwritable(settings.save_official)
    make_schedule(recipe.timesteps, recipe.noise_schedule)
    read_all([make_dataset(recipe, images, cache=settings.cache)])


def make_optimiser(network: nn.Module, recipe: TrainingRecipe) -> Adam:
    """Adam over all parameters."""
    parameters = list(network.parameters())
    return Adam(
        parameters,
        lr=recipe.lr,
        betas=(recipe.adam_beta1, recipe.adam_beta2),
        weight_decay=recipe.weight_decay,
        fused=parameters[0].device.type in ("cpu", "cuda"),  # one pass over memory instead of eight
    )


def place(network: nn.Module, device: torch.device, *, channels_last: bool) -> nn.Module:
    """Move a network to a device, in the memory layout that suits it."""
    layout = torch.channels_last if channels_last else torch.preserve_format
    return network.to(device, memory_format=layout)  # type: ignore[call-overload]
