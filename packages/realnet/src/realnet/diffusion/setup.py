"""What the trainings of both networks begin with and what they keep; a network made ready on a device."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Int64
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from adcommon.data.loading import AnomalyDataset
from adcommon.data.order import batches_per_epoch
from adcommon.data.readable import read_all
from adcommon.training.devices import distribute, set_seed
from adcommon.training.run import Run
from adcommon.types.records import Record
from realnet.diffusion import store
from realnet.diffusion.base_recipe import TrainingRecipe
from realnet.diffusion.data import labels_of, make_dataset
from realnet.diffusion.process import Process, make_process
from realnet.diffusion.recipes import ClassifierRecipe, DiffusionRecipe
from realnet.diffusion.schedule import make_schedule
from realnet.diffusion.settings import TrainSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a training begins with, before a stopped one is set back to where it was."""

    recipe: DiffusionRecipe | ClassifierRecipe
    settings: TrainSettings
    categories: list[str]
    """In the order of their class numbers."""
    dataset: AnomalyDataset
    labels: Int64[Tensor, " images"]
    """Class numbers of its images."""
    network: nn.Module
    """As it is stored: neither compiled nor wrapped."""
    weights: str
    """What it starts from: a file, a model folder, or "random"."""
    process: Process
    optimiser: Optimizer
    per_epoch: int
    """Steps of an epoch."""
    total: int
    """Steps of the training."""

    def trained(self, accelerator: Accelerator) -> nn.Module:
        """The network as the loop calls it: compiled if it is to be, its gradients shared by processes."""
        return distribute(compiled(self.network) if self.settings.compile else self.network, accelerator)


def set_up(
    recipe: DiffusionRecipe | ClassifierRecipe,
    images: Mapping[str, Sequence[Record]],
    accelerator: Accelerator,
    settings: TrainSettings,
) -> Setup:
    """Seed everything, and make what a training of this recipe needs.

    Args:
        images: normal images by category, in the order of the class numbers.
        settings: weights, cache, memory layout.
    """
    set_seed(recipe.seed)
    dataset = make_dataset(recipe, images, cache=settings.cache)
    per_epoch = batches_per_epoch(len(dataset), recipe.batch_size, world=accelerator.num_processes)
    total = recipe.iterations or recipe.epochs * per_epoch
    begun = store.start(recipe, len(images), settings.weights)
    network = place(begun, accelerator.device, channels_last=settings.channels_last)
    counts = " ".join(f"{category}:{len(records)}" for category, records in images.items())
    logger.info("training on %s, %d steps, %d an epoch", counts, total, per_epoch)
    return Setup(
        recipe=recipe,
        settings=settings,
        categories=list(images),
        dataset=dataset,
        labels=labels_of(dataset, list(images)),
        network=network,
        weights=str(recipe.init_from or store.weights_file(recipe, settings.weights) or "random"),
        process=make_process(recipe, accelerator.device),
        optimiser=accelerator.prepare_optimizer(make_optimiser(network, recipe), device_placement=False),
        per_epoch=per_epoch,
        total=total,
    )


def keep(
    setup: Setup,
    run: Run,
    network: nn.Module,
    state: Mapping[str, Any],
    *,
    is_best: bool = False,
    is_last: bool,
) -> None:
    """Save a network as the final model or an interim one, and as the best one if it is.

    Args:
        network: of a diffusion model the average.
        state: step, epoch and what was measured.
    """
    recipe = setup.recipe
    folders = [run.best_model] if is_best else []
    if is_last or recipe.keep_epochs:
        folders.append(run.model if is_last else run.epochs / str(state["epoch"]))
    for folder in folders:
        store.save(folder, network, recipe, setup.categories, setup.weights, state)
    keep_latest(run.epochs, recipe.keep_epochs)
    if is_last and setup.settings.save_official is not None:
        store.save_official(setup.settings.save_official, network, recipe, state)


def keep_latest(folder: Path, count: int) -> None:
    """Delete all but the latest `count` of the interim models in a folder, which are named by their epoch."""
    kept = sorted((path for path in folder.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))
    for path in kept[: max(len(kept) - count, 0)]:
        shutil.rmtree(path)


def check_inputs(
    recipe: DiffusionRecipe | ClassifierRecipe,
    images: Mapping[str, Sequence[Record]],
    settings: TrainSettings,
) -> None:
    """Fail now and not after hours on a schedule that is unknown or an image that cannot be decoded."""
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


def compiled(network: nn.Module) -> nn.Module:
    """The network, to be compiled at its first call; it shares the weights."""
    made = torch.compile(network)
    assert isinstance(made, nn.Module)
    return made
