"""The console commands: parse, call, print; torch is imported inside the functions."""

from dataclasses import replace
from functools import partial

from adcommon.cli.app import command, execute, experiment
from adcommon.cli.evaluate import evaluate_trained
from adcommon.cli.model_commands import predict_app
from adcommon.training.recipes import recipe_for, refuse_two_datasets
from adcommon.training.settings import EvaluateSettings, Settings
from baselines.patchcore.experiment import run
from baselines.patchcore.published import PUBLISHED
from baselines.patchcore.recipes import RECIPES, Recipe


def train() -> None:
    """`patchcore-train`: MVTec AD as in the paper, any dataset of the catalogue, or a folder of images."""
    experiment(
        "patchcore-train",
        _run,
        RECIPES,
        default=partial(recipe_for, papers=RECIPES),
        summary="Keep patches of the normal images of a dataset, or of a folder of your own (--data DIR): no "
        "training, one pass.",
        published=PUBLISHED,
    )


def evaluate() -> None:
    """`patchcore-evaluate`: a model on the test images of any dataset."""
    command("patchcore-evaluate", _evaluate)


def predict() -> None:
    """`patchcore-predict`: scores, decisions and pictures for any images."""
    execute(predict_app("patchcore-predict", method="patchcore"))


def _run(base: str, recipe: Recipe, settings: Settings) -> None:
    """Make and evaluate one model per category."""
    from adcommon.data import load_splits

    refuse_two_datasets(recipe.dataset, settings.data, RECIPES[base].dataset)
    if settings.data is not None:
        recipe = replace(recipe, dataset="folder")
    run(
        recipe,
        load_splits(recipe.dataset, settings.root(), settings.category, meaning=settings.meaning()),
        settings,
        name=f"patchcore-{base}",
    )


def _evaluate(*, settings: EvaluateSettings) -> None:
    """Evaluate a PatchCore on the test images of a dataset."""
    from baselines.patchcore.checkpoint import load_trained

    evaluate_trained(settings, load_trained)
