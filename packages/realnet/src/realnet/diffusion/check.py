"""A look at whether a diffusion model is ready to draw: how well it rebuilds the images it has learnt."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator

from adcommon.types.records import Record
from realnet.diffusion.data import labels_of, make_dataset
from realnet.diffusion.optimiser import place
from realnet.diffusion.recipes import DiffusionRecipe, SampleRecipe
from realnet.diffusion.settings import SampleSettings
from realnet.diffusion.store import Trained
from realnet.diffusion.validation import Validation

logger = logging.getLogger(__name__)

FEW_IMAGES = 50
"""A category with fewer training images is likely to be learnt by heart."""


def check_model(
    diffusion: Trained,
    recipe: SampleRecipe,
    images: Mapping[str, Sequence[Record]],
    out: Path,
    accelerator: Accelerator,
    settings: SampleSettings,
) -> dict[str, float]:
    """How well a diffusion model rebuilds some training images of each category, with pictures.

    Args:
        diffusion: the model.
        recipe: steps, strengths of the pictures, number of images (one batch).
        images: training images by category.
        out: folder for the pictures.
        accelerator: device and arithmetic.
        settings: memory layout, cache.

    Returns:
        Mean square errors by category, of values in [-1, 1].
    """
    learnt = diffusion.recipe
    assert isinstance(learnt, DiffusionRecipe)
    network = place(diffusion.network, accelerator.device, channels_last=settings.channels_last)
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
