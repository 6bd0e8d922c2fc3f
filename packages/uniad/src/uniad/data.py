"""The images of a recipe, and their features: computed once where nothing augments, else for each batch."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from adcommon.data import load_splits
from adcommon.data.ahead import on_device
from adcommon.data.augment import random_colour_jitter, random_orientations
from adcommon.data.lists.manifest import of_categories, read_lines
from adcommon.data.loading import AnomalyDataset
from adcommon.data.order import train_indices
from adcommon.data.preprocess import Preprocess
from adcommon.data.processes import results
from adcommon.data.sources.meaning import NOTHING, Meaning
from adcommon.io.cache import default_cache
from adcommon.models.feature_store import FeatureStore, cached_features
from adcommon.training.settings import Settings
from adcommon.types.prediction import PixelBatch
from adcommon.types.records import Record, Split
from uniad.model import UniAD
from uniad.recipes import CIFAR10_SPLITS, Recipe

FEATURE_BATCH = 16
"""Images per pass through the backbone when features are computed once."""


def on_own_images(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe, with the dataset `folder` if the command line names images of its own."""
    own = settings.data is not None or recipe.meta_train is not None
    return replace(recipe, dataset="folder") if own else recipe


def find_splits(
    recipe: Recipe, root: Path, categories: Sequence[str], meaning: Meaning = NOTHING
) -> dict[str, Split]:
    """The images to train and test with, by category: from lists, CIFAR-10's splits, or any dataset."""
    if recipe.meta_train is not None:
        meaning.refuse_for("lists")
        splits = read_lines(recipe.meta_train, recipe.meta_test, recipe.image_dir)
        return of_categories(splits, categories, recipe.meta_train)
    if recipe.dataset == "cifar10":
        categories = recipe.normals or categories or CIFAR10_SPLITS
    return load_splits(recipe.dataset, root, categories, meaning=meaning)


def feature_store(
    model: UniAD,
    records: Sequence[Record],
    preprocess: Preprocess,
    accelerator: Accelerator | None = None,
    *,
    cache: bool,
    workers: int | None = 0,
) -> FeatureStore:
    """The aligned features of images, computed now where they are not yet stored; processes share the work.

    Args:
        cache: keep decoded images and features on disk too, not in memory alone.
        workers: processes that load images.
    """
    dataset = AnomalyDataset(records, preprocess, default_cache("images", enabled=cache), memory_bytes=0)
    features = default_cache("features", enabled=cache)
    return cached_features(
        model.backbone, dataset, FEATURE_BATCH, features, workers=workers, accelerator=accelerator
    )


def fit_whitening(
    model: UniAD,
    records: Sequence[Record],
    preprocess: Preprocess,
    accelerator: Accelerator,
    *,
    cache: bool,
    workers: int | None,
) -> None:
    """Fit the model's whitening to the features of the training images, as they are without augmentation.

    Every process does the same, and comes to the same numbers.
    """
    assert model.whitening is not None
    store = feature_store(model, records, preprocess, accelerator, cache=cache, workers=workers)
    places = torch.arange(len(store)).split(FEATURE_BATCH)
    model.whitening.fit(store.batch(batch.tolist())[0] for batch in places)


def training_features(
    model: UniAD,
    records: Sequence[Record],
    preprocess: Preprocess,
    recipe: Recipe,
    accelerator: Accelerator,
    *,
    start: int,
    cache: bool,
    workers: int | None,
) -> Iterator[Float[Tensor, "batch channels grid_height grid_width"]]:
    """What is to be rebuilt, batch after batch, without end, on the accelerator's device.

    Args:
        start: batches to pass over.
        cache: as for `feature_store`.
        workers: processes that load images.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    order = train_indices(
        len(records), recipe.batch_size, seed=recipe.seed, start=start, rank=rank, world=world
    )
    if recipe.cache_features and not recipe.augments:
        store = feature_store(model, records, preprocess, accelerator, cache=cache, workers=workers)
        for indices in order:
            yield model.prepared(store.batch(indices)[0])
    else:
        dataset = AnomalyDataset(records, preprocess, default_cache("images", enabled=cache))
        read = partial(_read, dataset, recipe, rank)
        batches = results(read, enumerate(order, start), workers, seed=recipe.seed)
        for batch in on_device(batches, preprocess, accelerator.device):
            yield model.features(batch.images)


def _read(dataset: AnomalyDataset, recipe: Recipe, rank: int, key: tuple[int, list[int]]) -> PixelBatch:
    """A process's batch number so and so; what changes its images depends on the seed and this number."""
    number, indices = key
    batch = dataset.pixel_batch(indices)
    if not recipe.augments:
        return batch
    drawn = np.random.SeedSequence([recipe.seed, rank, number, *b"augment"]).generate_state(1, np.uint64)[0]
    generator = Generator().manual_seed(int(drawn >> 1))
    return replace(batch, pixels=augmented(batch.pixels, recipe, generator))


def augmented(
    pixels: UInt8[Tensor, "batch height width 3"], recipe: Recipe, generator: Generator
) -> UInt8[Tensor, "batch height width 3"]:
    """The images, each changed on its own chance."""
    images = random_orientations(
        pixels.permute(0, 3, 1, 2),
        generator,
        horizontal=recipe.hflip / 2,
        vertical=recipe.vflip / 2,
        turn=recipe.rotate,
    )
    changed = [
        random_colour_jitter(
            image,
            generator,
            brightness=recipe.brightness,
            contrast=recipe.contrast,
            saturation=recipe.saturation,
            hue=recipe.hue,
            probability=recipe.colorjitter,
        )
        for image in images
    ]
    return torch.stack(changed).permute(0, 2, 3, 1).contiguous()
