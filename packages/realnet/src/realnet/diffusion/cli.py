"""The console commands around the diffusion model: parse, call, print; torch is imported late."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adcommon.cli.app import experiment
from adcommon.errors import BadValue, OutputExists
from adcommon.training.jobs import run_jobs
from adcommon.training.logging import start_logging
from adcommon.training.recipes import recipe_for, refuse_two_datasets
from adcommon.training.run import RunGroup
from adcommon.training.stop import StopSignal
from realnet.data import ALL
from realnet.diffusion.compat.config import read_classifier, read_diffusion, read_sample
from realnet.diffusion.recipes import (
    CLASSIFIER_RECIPES,
    CLASSIFIERS,
    DIFFUSION_RECIPES,
    PAPER,
    SAMPLE_RECIPES,
    UNETS,
    ClassifierRecipe,
    DiffusionRecipe,
    SampleRecipe,
)
from realnet.diffusion.settings import SampleSettings, TrainSettings
from realnet.diffusion.sources import class_names, on_own_images, training_images


def train_diffusion() -> None:
    """`realnet-train-diffusion`: one diffusion model for all categories of a dataset."""
    experiment(
        "realnet-train-diffusion",
        _train,
        DIFFUSION_RECIPES,
        default=_default_recipe,
        summary="Train the diffusion model on the normal images of all categories: of MVTec AD as the paper "
        "does, of any dataset (--dataset), or of your own (--data DIR). For a CPU: --recipe quick64.",
        read_config=read_diffusion,
        settings_type=TrainSettings,
    )


def train_classifier() -> None:
    """`realnet-train-classifier`: the classifier that guides the sampling."""
    experiment(
        "realnet-train-classifier",
        _train,
        CLASSIFIER_RECIPES,
        default=_default_recipe,
        summary="Train the classifier that draws the diffusion model's samples towards their categories. Not "
        "needed for a single category.",
        read_config=read_classifier,
        settings_type=TrainSettings,
    )


def sample() -> None:
    """`realnet-sample`: near-normal images, to be blended into normal ones by realnet-train."""
    experiment(
        "realnet-sample",
        _sample,
        SAMPLE_RECIPES,
        default=_default_recipe,
        summary="Draw images with a trained diffusion model that look like the product but are slightly "
        "wrong (--strength 0: normal ones).",
        read_config=read_sample,
        settings_type=SampleSettings,
    )


def _default_recipe(words: Sequence[str]) -> str:
    return recipe_for(words, PAPER, own=("--data", "--meta-train"))


def _train(base: str, recipe: DiffusionRecipe | ClassifierRecipe, settings: TrainSettings) -> None:
    """Train the network of a recipe."""
    recipes = CLASSIFIER_RECIPES if isinstance(recipe, ClassifierRecipe) else DIFFUSION_RECIPES
    refuse_two_datasets(recipe.dataset, settings.data, recipes[base].dataset)
    recipe = on_own_images(recipe, settings)
    images = training_images(recipe, settings.root(), settings.category, settings.meaning())
    if isinstance(recipe, ClassifierRecipe) and len(images) == 1:
        raise BadValue(
            f"there is one category, {next(iter(images))}, and nothing to classify; realnet-sample draws it "
            "without a classifier"
        )

    from realnet.diffusion import train_classifier, train_diffusion
    from realnet.diffusion.setup import check_inputs
    from realnet.diffusion.store import origin

    stage = train_classifier if isinstance(recipe, ClassifierRecipe) else train_diffusion
    train: Callable[..., list[dict[str, Any]]] = stage.train
    origin(recipe, settings.weights)  # a missing file is said before anything is written
    run_jobs(
        f"{recipe.method}-{base}",
        recipe,
        settings,
        {recipe.kind: images},
        train=lambda job, run, accelerator, stop: train(recipe, job, run, accelerator, settings, stop),
        check=lambda: check_inputs(recipe, images, settings),
    )


def _sample(base: str, recipe: SampleRecipe, settings: SampleSettings) -> None:
    from adcommon.models.devices import choose_device
    from adcommon.training.devices import start
    from realnet.diffusion.sample import Sampler, check_pair, draw_samples
    from realnet.diffusion.store import load
    from realnet.diffusion.validation import check_model

    start_logging(None)
    recipe = on_own_images(recipe, settings)
    places = (
        recipe.diffusion or settings.save_dir / f"realnet-diffusion-{base}",
        recipe.classifier or settings.save_dir / f"realnet-classifier-{base}",
    )
    names = class_names(recipe, settings.root()) if any(place.is_file() for place in places) else ()
    diffusion = load(places[0], DiffusionRecipe(**UNETS[recipe.network]), names)
    every = not settings.category or ALL in settings.category
    categories = diffusion.categories if every else settings.category
    check_pair(diffusion, None, categories)
    out = settings.folder(f"realnet-sample-{base}")
    accelerator = start(choose_device(settings.gpu, settings.device), recipe)
    if settings.check:
        images = training_images(recipe, settings.root(), categories, settings.meaning())
        errors = check_model(diffusion, recipe, images, out / "check", accelerator, settings)
        for name, error in errors.items():
            print(f"{name}: mean square error of rebuilt images {error:.5f}")
        print(f"pictures are in {out / 'check'}")
        return

    classifier = None
    if recipe.guided and len(diffusion.categories) > 1:
        classifier = load(places[1], ClassifierRecipe(**CLASSIFIERS[recipe.network]), names)
        classifier = check_pair(diffusion, classifier, categories)
    with accelerator.main_process_first():
        if accelerator.is_main_process:
            _open(out, recipe, settings)
            start_logging(out)
    sampler = Sampler(recipe, diffusion, classifier, accelerator, settings)
    with StopSignal() as stop:
        drawn = draw_samples(sampler, categories, out, accelerator, stop)
    if accelerator.is_main_process:
        print(f"{drawn} new images are in {out}; use them with: realnet-train --sdas-dir {out}")


def _open(out: Path, recipe: SampleRecipe, settings: SampleSettings) -> None:
    """Prepare the folder: a new one, one to fill up (--resume), or one to empty (--force).

    Raises:
        OutputExists: there are files and neither was asked for.
        BadValue: the files that are there were drawn with other values.
    """
    group = RunGroup(out, resume=True)
    if settings.force:
        for path in out.glob("*/rank0_*.jpg"):
            path.unlink()
    elif settings.resume:
        group.refuse_changed({name: value for name, value in vars(recipe).items() if name != "sample_number"})
    elif any(out.glob("*/rank0_*.jpg")):
        raise OutputExists(
            f"{out} has images. Draw the missing ones with --resume, draw all afresh with --force, or choose "
            "another folder with --out"
        )
    group.open()
    group.write_recipe({**asdict(recipe), **settings.as_flags()})
