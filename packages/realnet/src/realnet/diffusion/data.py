"""Training images of all categories, their labels, and the preprocessing that both networks share."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int64
from torch import Tensor, nn

from adcommon.data.augment import random_orientations
from adcommon.data.loading import AnomalyDataset, train_batches
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue
from adcommon.io.cache import default_cache
from adcommon.types.records import Record
from realnet.diffusion.base_recipe import TrainingRecipe
from realnet.diffusion.draws import seed_step
from realnet.diffusion.process import Images


def make_preprocess(image_size: int, *, upright: bool) -> Preprocess:
    """Stretched to a square, values in [-1, 1]."""
    half = (0.5, 0.5, 0.5)
    return Preprocess(image_size=image_size, upright=upright, mean=half, std=half)


def make_dataset(
    recipe: TrainingRecipe, images: Mapping[str, Sequence[Record]], *, cache: bool
) -> AnomalyDataset:
    """The training images of every category, one after the other."""
    records = [record for records in images.values() for record in records]
    preprocess = make_preprocess(recipe.image_size, upright=recipe.upright)
    return AnomalyDataset(records, preprocess, default_cache("images", enabled=cache))


def labels_of(dataset: AnomalyDataset, categories: Sequence[str]) -> Int64[Tensor, " images"]:
    """The class number of every image: the place of its category."""
    places = {category: number for number, category in enumerate(categories)}
    return torch.tensor([places[record.category] for record in dataset.records])


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """What a training step consumes, on the accelerator's device."""

    clean: Images
    """Values in [-1, 1]."""
    labels: Int64[Tensor, " batch"]
    """Class numbers."""
    noise: Images
    """Standard normal numbers."""
    steps: Int64[Tensor, " batch"]
    """Of the diffusion process."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.clean)

    def parts(self, size: int, network: nn.Module, accelerator: Accelerator) -> Iterator["TrainingBatch"]:
        """At most `size` images at a time; processes share gradients of the network after the last alone."""
        for first in range(0, len(self), size):
            chunk = slice(first, first + size)
            with nullcontext() if chunk.stop >= len(self) else accelerator.no_sync(network):
                yield TrainingBatch(
                    self.clean[chunk], self.labels[chunk], self.noise[chunk], self.steps[chunk]
                )


def training_batches(
    dataset: AnomalyDataset,
    labels: Int64[Tensor, " images"],
    recipe: TrainingRecipe,
    accelerator: Accelerator,
    *,
    start: int,
    workers: int | None,
) -> Iterator[TrainingBatch]:
    """Batch after batch, without end, each with noise and steps of its own.

    Before a batch torch's global generator is seeded with its number: augmentations, noise, steps, and then
    the network's dropout draw from it.

    Args:
        start: batches to pass over.
    """
    device = accelerator.device
    batches = train_batches(
        dataset,
        recipe.batch_size,
        seed=recipe.seed,
        start=start,
        workers=workers,
        device=device,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    for number in itertools.count(start + 1):
        seed_step(recipe.seed, accelerator.process_index, number)
        batch = next(batches)
        images = batch.images
        if recipe.hflip or recipe.vflip or recipe.rotate:
            images = augmented(images, recipe)
        yield TrainingBatch(
            images,
            labels[batch.indices].to(device, non_blocking=True),
            torch.randn(images.shape).to(device),
            torch.randint(recipe.timesteps, (len(images),)).to(device),
        )


def augmented(
    images: Float[Tensor, "batch 3 height width"], recipe: TrainingRecipe
) -> Float[Tensor, "batch 3 height width"]:
    """The images, each mirrored and turned on its own chance."""
    generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    return random_orientations(
        images, generator, horizontal=recipe.hflip / 2, vertical=recipe.vflip / 2, turn=recipe.rotate
    )


class Classes:
    """The categories in the order of their class numbers, which a resumed training has to keep."""

    def __init__(self, names: Sequence[str]) -> None:
        """Remember them."""
        self.names = list(names)

    def state_dict(self) -> dict[str, Any]:
        """Their names."""
        return {"names": self.names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare them.

        Raises:
            BadValue: the training was begun with others.
        """
        if state_dict["names"] != self.names:
            raise BadValue(
                f"the training was begun with the categories {' '.join(state_dict['names'])}, not with "
                f"{' '.join(self.names)}; resume it with the same ones"
            )
