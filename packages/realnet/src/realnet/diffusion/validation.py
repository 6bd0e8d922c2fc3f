"""How far a diffusion model has come: pictures that it draws, and how well it rebuilds training images."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from adcommon.data.ahead import placed
from adcommon.data.loading import AnomalyDataset
from adcommon.data.order import epoch_order
from adcommon.io.files import atomic_write
from adcommon.results.picture_names import picture_names
from adcommon.results.pictures import png
from adcommon.types.records import Record
from realnet.diffusion.data import labels_of, make_dataset
from realnet.diffusion.draws import generator, normal
from realnet.diffusion.process import Images, make_process, to_pixels
from realnet.diffusion.recipes import DiffusionRecipe, SampleRecipe
from realnet.diffusion.settings import SampleSettings
from realnet.diffusion.setup import place
from realnet.diffusion.store import Learnt
from realnet.diffusion.synthesise import Network, invert, last, sample, sample_ddim

logger = logging.getLogger(__name__)

FEW_IMAGES = 50
"""A category with fewer training images is likely to be learnt by heart."""


class Validation:
    """Some training images, drawn anew for each validation, and the best result so far.

    As in the reference they are training images: the model has seen no others, and there are no others to
    imitate. Each picture shows, above, what the model draws at three strengths from the same noise; below, an
    image, the noise that leads to it, and what the model makes of that noise.
    """

    def __init__(
        self,
        network: nn.Module,
        dataset: AnomalyDataset,
        labels: Int64[Tensor, " images"],
        recipe: DiffusionRecipe,
        device: torch.device,
    ) -> None:
        """Nothing is computed before the first measurement; `labels` are the images' class numbers."""
        self.network, self.dataset, self.labels, self.recipe = network, dataset, labels, recipe
        self.process = make_process(recipe, device, recipe.validation_respacing)
        self.names = picture_names(
            f"{record.category}/{record.image.parent.name}/{record.image.stem}" for record in dataset.records
        )
        self.best = float("inf")

    def state_dict(self) -> dict[str, Any]:
        """The best error so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.best = state_dict["best"]

    def is_best(self, error: float) -> bool:
        """True if no error before was smaller; it is the best one from now on."""
        better = error < self.best
        self.best = min(self.best, error)
        return better

    @torch.inference_mode()
    def measure(self, epoch: int, folder: Path | None, accelerator: Accelerator) -> float:
        """Mean square of the error of rebuilt images, values in [-1, 1], over all processes.

        Args:
            epoch: chooses images and noise.
            folder: for the pictures, epoch/category/kind/name.png; None: none are written.
        """
        size = self.recipe.chunk_size
        chosen = epoch_order(len(self.dataset), self.recipe.seed, epoch)
        chosen = chosen[: self.recipe.validation_batches * self.recipe.batch_size]
        own = chosen[accelerator.process_index :: accelerator.num_processes].tolist()
        error = torch.zeros(2, device=self.process.device)
        for first in range(0, len(own), size):
            indices = own[first : first + size]
            noise = generator(self.recipe.seed, epoch, indices[0])
            read = self.dataset.pixel_batch(indices)
            images = placed(read, self.dataset.preprocess, self.process.device).images
            labels = self.labels[indices].to(self.process.device)
            with accelerator.autocast():
                latent, rebuilt = self._rebuild(images, labels)
            error += torch.stack([((rebuilt - images) ** 2).sum(), torch.tensor(images.numel()).to(error)])
            if folder is not None:
                with accelerator.autocast():
                    drawn = self._draw(images, labels, noise)
                self._write(indices, [*drawn, images, latent, rebuilt], folder / str(epoch))
        total, values = accelerator.reduce(error, reduction="sum").tolist()
        return total / values

    def _rebuild(self, images: Images, labels: Int64[Tensor, " batch"]) -> tuple[Images, Images]:
        """The noise that leads to the images, and what comes of it."""
        network = bound(self.network, labels)
        latent = last(invert(network, self.process, images))
        still = torch.zeros(len(images), device=images.device)
        steps = sample_ddim(
            network, self.process, latent, lambda _: torch.zeros_like(latent), strengths=still
        )
        return latent, last(steps)

    def _draw(self, images: Images, labels: Int64[Tensor, " batch"], draws: torch.Generator) -> list[Images]:
        """Samples of each strength, all from the same noise, in one batch."""
        strengths = torch.tensor(self.recipe.validation_strengths, device=images.device)
        count = len(strengths)
        start = normal(images.shape, draws, images.device).repeat(count, 1, 1, 1)
        steps = sample(
            bound(self.network, labels.repeat(count)),
            self.process,
            start,
            lambda _: normal(start.shape, draws, images.device),
            strengths=strengths.repeat_interleave(len(images)),
        )
        return list(last(steps).chunk(count))

    def _write(self, indices: list[int], tiles: list[Images], folder: Path) -> None:
        pixels = [to_pixels(tile).cpu().numpy() for tile in tiles]
        for row, index in enumerate(indices):
            atomic_write(folder / self.names[index], png(grid([tile[row] for tile in pixels])))


def bound(network: nn.Module, labels: Int64[Tensor, " batch"]) -> Network:
    """The network with its labels given; what comes out is in float32."""
    return lambda images, times: network(images, times, labels).float()


def grid(tiles: list[UInt8[np.ndarray, "size size 3"]]) -> UInt8[np.ndarray, "height width 3"]:
    """Six tiles in two rows."""
    return np.concatenate([np.concatenate(tiles[:3], axis=1), np.concatenate(tiles[3:], axis=1)])


def check_model(
    diffusion: Learnt,
    recipe: SampleRecipe,
    images: Mapping[str, Sequence[Record]],
    out: Path,
    accelerator: Accelerator,
    settings: SampleSettings,
) -> dict[str, float]:
    """Mean square errors of one batch of each category's training images rebuilt; pictures go to `out`."""
    learnt = diffusion.recipe
    assert isinstance(learnt, DiffusionRecipe)
    network = place(diffusion.network, accelerator.device, channels_last=recipe.channels_last)
    shown = replace(
        learnt,
        validation_strengths=(0.0, *recipe.strengths),
        validation_respacing=recipe.respacing,
        validation_batches=1,
        batch_size=recipe.batch_size,
        chunk_size=recipe.batch_size,
        seed=recipe.seed,
    )
    errors = {}
    for name, records in images.items():
        if len(records) < FEW_IMAGES:
            logger.warning("%s has %d training images only: expect copies of them", name, len(records))
        dataset = make_dataset(shown, {name: records}, cache=settings.cache)
        labels = labels_of(dataset, diffusion.categories)
        validation = Validation(network, dataset, labels, shown, accelerator.device)
        errors[name] = validation.measure(0, out, accelerator)
        logger.info("%s error of rebuilt images %.5f", name, errors[name])
    return errors
