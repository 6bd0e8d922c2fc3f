"""Drawing near-normal images (SDAS) with a trained diffusion model.

An image depends on seed, category and batch alone: what is stopped goes on, and processes share the batches.
"""

import logging
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from adcommon.errors import BadValue, Stopped, unknown_name
from adcommon.io.files import atomic_write, csv_text
from adcommon.training.devices import any_process, compiled
from adcommon.training.stop import StopSignal
from realnet.diffusion.draws import generator, normal
from realnet.diffusion.process import make_process, to_pixels
from realnet.diffusion.recipes import SampleRecipe
from realnet.diffusion.settings import SampleSettings
from realnet.diffusion.setup import place
from realnet.diffusion.store import Learnt
from realnet.diffusion.synthesise import Guidance, last, sample, sample_ddim
from realnet.diffusion.validation import bound

logger = logging.getLogger(__name__)

TABLE = "samples.csv"
COLUMNS = ("file", "category", "seed", "strength", "sampler", "guided")


@dataclass(frozen=True)
class Batch:
    """Some images of a category that are drawn together."""

    category: str
    number: int
    size: int

    @property
    def files(self) -> list[str]:
        """Their paths below the output folder, named as the reference names those of its first process."""
        first = self.number * self.size
        return [f"{self.category}/rank0_{first + place}.jpg" for place in range(self.size)]

    def draws(self, seed: int) -> torch.Generator:
        """The random numbers of this batch: strengths, start, noise, in this order."""
        return generator(seed, zlib.crc32(self.category.encode()), self.number)


class Sampler:
    """The two networks on a device, ready to draw."""

    def __init__(
        self,
        recipe: SampleRecipe,
        diffusion: Learnt,
        classifier: Learnt | None,
        accelerator: Accelerator,
        settings: SampleSettings,
    ) -> None:
        """Move the networks to the device; without a classifier nothing is guided."""
        self.recipe, self.accelerator = recipe, accelerator
        self.categories = diffusion.categories
        self.size = diffusion.recipe.image_size
        device = accelerator.device
        self.process = make_process(diffusion.recipe, device, recipe.respacing)

        def ready(network: nn.Module) -> nn.Module:
            network = place(network, device, channels_last=recipe.channels_last).requires_grad_(False)
            return compiled(network) if recipe.compile else network

        self.network = ready(diffusion.network)
        self.classifier = None if classifier is None else ready(classifier.network)
        self.guided_categories = () if classifier is None else classifier.categories

    @torch.inference_mode()
    def draw(self, batch: Batch) -> UInt8[np.ndarray, "batch size size 3"]:
        """The images of a batch."""
        device, draws = self.process.device, batch.draws(self.recipe.seed)
        strengths = draw_strengths(self.recipe, batch.size, draws).to(device)
        shape = (batch.size, 3, self.size, self.size)
        start = normal(shape, draws, device)
        labels = torch.full((batch.size,), self.categories.index(batch.category), device=device)
        guidance = None
        if self.classifier is not None:
            own = torch.full_like(labels, self.guided_categories.index(batch.category))
            guidance = Guidance(self.classifier, own, self.recipe.classifier_scale)
        sampler = sample if self.recipe.sampler == "ddpm" else partial(sample_ddim, eta=self.recipe.eta)
        with self.accelerator.autocast():
            steps = sampler(
                bound(self.network, labels),
                self.process,
                start,
                lambda _: normal(shape, draws, device),
                strengths=strengths,
                guidance=guidance,
            )
            images = last(steps)
        if self.recipe.grey:
            images = images.mean(dim=1, keepdim=True).expand_as(images)
        return to_pixels(images).cpu().numpy()


def draw_samples(
    sampler: Sampler, categories: Sequence[str], out: Path, accelerator: Accelerator, stop: StopSignal
) -> int:
    """Write the images CATEGORY/rank0_N.jpg that `out` lacks, and the table; the number of new images.

    Raises:
        Stopped: `stop` was set, which is looked at after every batch; what was drawn is there.
    """
    recipe = sampler.recipe
    # The last batch of a category is whole, as in the reference.
    numbers = range(math.ceil(recipe.sample_number / recipe.batch_size))
    batches = [Batch(category, number, recipe.batch_size) for category in categories for number in numbers]
    own = batches[accelerator.process_index :: accelerator.num_processes]
    missing = [batch for batch in own if not is_drawn(batch, out)]
    logger.info("drawing %d of %d images", len(missing) * recipe.batch_size, len(own) * recipe.batch_size)
    stops = False
    for batch in tqdm(missing, desc="drawing", unit="batch", disable=None):
        for file, pixels in zip(batch.files, sampler.draw(batch), strict=True):
            write_jpeg(out / file, pixels, recipe.quality)
        if stop.requested:
            stops = True
            break
    if any_process(stops, accelerator):
        raise Stopped("stopped; run the same command with --resume to draw the rest", stop.number)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        complete = drawn_batches(recipe, sampler.categories, out)
        write_table(out / TABLE, recipe, complete, guided=sampler.classifier is not None)
    return len(missing) * recipe.batch_size


def drawn_batches(recipe: SampleRecipe, categories: Sequence[str], out: Path) -> list[Batch]:
    """Every batch that is in the folder, whichever command drew it."""
    found: list[Batch] = []
    for category in categories:
        batch = Batch(category, 0, recipe.batch_size)
        while is_drawn(batch, out):
            found.append(batch)
            batch = replace(batch, number=batch.number + 1)
    return found


def is_drawn(batch: Batch, out: Path) -> bool:
    """True if all files of a batch are there."""
    return all((out / file).is_file() for file in batch.files)


def draw_strengths(recipe: SampleRecipe, size: int, draws: torch.Generator) -> Float[Tensor, " batch"]:
    """The strengths of a batch's images, uniform in the recipe's range; by default one for all of them."""
    low, high = recipe.strengths
    drawn = torch.rand(size, generator=draws)
    if not recipe.strength_per_image:
        drawn = drawn[:1].expand(size)
    return low + (high - low) * drawn


def write_table(path: Path, recipe: SampleRecipe, batches: Sequence[Batch], *, guided: bool) -> None:
    """Write how each image was drawn."""
    rows: list[tuple[object, ...]] = [COLUMNS]
    for batch in batches:
        strengths = draw_strengths(recipe, batch.size, batch.draws(recipe.seed)).tolist()
        for file, strength in zip(batch.files, strengths, strict=True):
            how = (recipe.seed, f"{strength:.6f}", recipe.sampler, int(guided))
            rows.append((file, batch.category, *how))
    atomic_write(path, csv_text(rows))


def write_jpeg(path: Path, pixels: UInt8[np.ndarray, "height width 3"], quality: int) -> None:
    """Write a picture, all of it or nothing."""
    atomic_write(path, lambda file: Image.fromarray(pixels).save(file, format="JPEG", quality=quality))


def check_pair(diffusion: Learnt, classifier: Learnt | None, categories: Sequence[str]) -> Learnt | None:
    """The classifier that guides: the given one if it fits, or none where there is one class only.

    Raises:
        UnknownName: a category that one of the networks has not learnt.
        BadValue: the networks are of different image sizes or processes.
    """
    for name in categories:
        if name not in diffusion.categories:
            raise unknown_name("category of the diffusion model", name, diffusion.categories)
    if classifier is None:
        return None
    if len(classifier.categories) == 1:
        logger.info("the classifier knows one category alone: its gradient is zero, nothing is guided")
        return None
    for name in categories:
        if name not in classifier.categories:
            raise unknown_name("category of the classifier", name, classifier.categories)
    for fact in ("image_size", "timesteps", "noise_schedule", "rescale_times"):
        ours, theirs = (getattr(trained.recipe, fact) for trained in (diffusion, classifier))
        if ours != theirs:
            raise BadValue(
                f"the diffusion model has {fact} {ours}, the classifier {theirs}; train them alike, or draw "
                "without: --no-classifier"
            )
    return classifier
