"""The console commands: parse, call, print; torch is imported inside the functions. See also pictures.cli."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from cyclopts import Parameter

from adcommon.cli.app import command, execute, experiment
from adcommon.cli.evaluate import evaluate_trained
from adcommon.cli.list_commands import metadata_app
from adcommon.cli.model_commands import predict_app
from adcommon.errors import BadValue
from adcommon.io.files import refuse_unwritable
from adcommon.training.recipes import recipe_for, refuse_two_datasets
from adcommon.training.settings import EvaluateSettings, Settings
from adcommon.types.records import Split
from uniad.ablations import ABLATIONS, ALL
from uniad.compat.config import read_config
from uniad.experiment import run
from uniad.published import PUBLISHED
from uniad.recipes import RECIPES, Recipe


def train() -> None:
    """`uniad-train`: the paper's experiments, any dataset of the catalogue, or a folder of images."""
    experiment(
        "uniad-train",
        _run,
        RECIPES,
        default=partial(recipe_for, papers=RECIPES, own=("--data", "--meta-train")),
        summary="Train one UniAD for all categories: of MVTec AD as the paper does, of any dataset "
        "(--dataset), or of your own images (--data DIR).",
        read_config=read_config,
        ablations=ABLATIONS,
        published=PUBLISHED,
    )


def quickstart(out: Path, *, force: bool = False) -> None:
    """What `ad quickstart` runs: both kinds of real solar cells in one model."""
    _run("quickstart", RECIPES["quickstart"], Settings(out=out, maps=True, force=force))


def predict() -> None:
    """`uniad-predict`: scores, decisions and pictures for any images."""
    execute(predict_app("uniad-predict", method="uniad"))


def evaluate() -> None:
    """`uniad-evaluate`: a trained model, or the authors' checkpoint, on the test images of any dataset."""
    command("uniad-evaluate", _evaluate)


def metadata() -> None:
    """`uniad-metadata`: the authors' lists of a dataset."""
    summary = "Write train.json and test.json of a dataset, as the authors' code reads."
    execute(metadata_app("uniad-metadata", summary, per_category=False, out=Path()))


@Parameter(name="*", negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class UniADSettings(EvaluateSettings):
    """What an evaluation of UniAD takes besides."""

    vis: Literal["panel", "compound", "single"] = "panel"
    """Kind of the pictures of --maps: `panel`, or the paper's: `compound` stacks image, truth and maps;
    `single` is the map over the image."""
    reference_auroc: bool = False
    """In the paper's columns, replace an AUROC below 0.5 by one minus it, as the reference does."""
    save_features: Path | None = None
    """Folder for the rebuilt features of each image, for uniad-vis-recon."""
    save_official: Path | None = None
    """File for the model in the layout of the authors' checkpoints."""


def _run(base: str, recipe: Recipe, settings: Settings) -> None:
    """Train and evaluate one model for all categories, or one for each."""
    from uniad.data import find_splits, on_own_images

    refuse_two_datasets(recipe.dataset, settings.data, ALL[base].dataset)
    recipe = on_own_images(recipe, settings)
    run(
        recipe,
        find_splits(recipe, settings.root(), settings.category, settings.meaning()),
        settings,
        name=f"uniad-{base}",
    )


def _evaluate(*, settings: UniADSettings) -> None:
    """Evaluate a trained UniAD on the test images of a dataset."""
    from uniad.checkpoint import load_trained, save_official
    from uniad.data import find_splits
    from uniad.evaluate import pictures, protocols, save_features

    refuse_unwritable(settings.save_official)

    def find(recipe: Recipe, categories: Sequence[str]) -> Mapping[str, Split]:
        if settings.save_features is not None and recipe.tile is not None:
            raise BadValue("--save-features is of whole images, and this model looks at tiles; leave it out")
        other = "folder" if settings.data else settings.dataset
        if other is not None:
            recipe = replace(recipe, dataset=other, meta_train=None, meta_test=None)
        return find_splits(recipe, settings.root(), categories, settings.meaning())

    trained = evaluate_trained(
        settings,
        load_trained,
        protocols=lambda recipe: protocols(replace(recipe, reference_auroc=settings.reference_auroc)),
        pictures=lambda recipe: pictures(settings.vis),
        find=find,
    )
    if settings.save_features is not None:
        splits = find(trained.recipe, settings.category or trained.categories)
        tests = {name: split.test for name, split in splits.items()}
        save_features(trained.scorer, tests, settings.save_features, batch_size=settings.batch_size)
    if settings.save_official is not None:
        save_official(settings.save_official, trained, settings.model)
