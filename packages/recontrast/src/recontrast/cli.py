"""The console commands: parse, call, print; torch is imported inside the functions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adcommon.cli.app import command, execute, experiment
from adcommon.cli.evaluate import evaluate_trained
from adcommon.cli.model_commands import predict_app
from adcommon.training.recipes import flags_of, refuse_two_datasets, values_of
from adcommon.training.settings import EvaluateSettings, Settings
from recontrast.ablations import ABLATIONS, ALL
from recontrast.experiment import run
from recontrast.published import PUBLISHED
from recontrast.recipes import CATEGORIES, RECIPES, Recipe


def train() -> None:
    """`recontrast-train`: any dataset of the catalogue, or a plain folder of images."""
    experiment(
        "recontrast-train",
        _run,
        RECIPES,
        default=_default_recipe,
        summary="Train ReContrast on any dataset, or on a folder of your own images (--data DIR).",
        ablations=ABLATIONS,
        published=PUBLISHED,
    )


def _default_recipe(words: Sequence[str]) -> str:
    """The recipe of the paper's dataset that is named; else the one for images of one's own.

    >>> _default_recipe(["--dataset", "oct2017"]), _default_recipe(["--data", "photos"])
    ('oct', 'own')
    """
    papers = {RECIPES[name].dataset: name for name in ("mvtec", "visa", "oct", "aptos", "isic")}
    named = values_of("--dataset", words)
    return papers.get(named[0], "own") if named and "--data" not in flags_of(words) else "own"


def mvtec() -> None:
    """`recontrast-mvtec`: one model per category of MVTec AD."""
    _paper("mvtec", "Train and evaluate ReContrast on MVTec AD, one model per category, as the paper does.")


def visa() -> None:
    """`recontrast-visa`: one model per category of VisA."""
    _paper("visa", "Train and evaluate ReContrast on VisA, one model per category, as the paper does.")


def oct2017() -> None:
    """`recontrast-oct`: OCT2017."""
    _paper("oct", "Train and evaluate ReContrast on OCT2017, as the paper does.")


def aptos() -> None:
    """`recontrast-aptos`: APTOS 2019."""
    _paper("aptos", "Train and evaluate ReContrast on APTOS 2019, as the paper does.")


def isic() -> None:
    """`recontrast-isic`: ISIC 2018."""
    _paper("isic", "Train and evaluate ReContrast on ISIC 2018 (task 3), as the paper does.")


def mvtec_multiclass() -> None:
    """`recontrast-mvtec-multiclass`: one model for all categories of MVTec AD."""
    _paper("mvtec_multiclass", "Train and evaluate one ReContrast for all categories of MVTec AD.")


def visa_multiclass() -> None:
    """`recontrast-visa-multiclass`: one model for all categories of VisA."""
    _paper("visa_multiclass", "Train and evaluate one ReContrast for all categories of VisA.")


def mvtec_stable() -> None:
    """`recontrast-mvtec-stable`: MVTec AD with the authors' stabilising measures."""
    _paper(
        "mvtec_stable", "Train and evaluate ReContrast on MVTec AD with the authors' stabilising measures."
    )


def visa_stable() -> None:
    """`recontrast-visa-stable`: VisA with the authors' stabilising measures."""
    _paper("visa_stable", "Train and evaluate ReContrast on VisA with the authors' stabilising measures.")


def quickstart(out: Path, *, force: bool = False) -> None:
    """What `ad quickstart` runs: real solar cells, a backbone whose weights are installed."""
    settings = Settings(category=("mono",), out=out, maps=True, force=force)
    _run("quickstart", RECIPES["quickstart"], settings)


def evaluate() -> None:
    """`recontrast-evaluate`: a trained model on the test images of any dataset."""
    command("recontrast-evaluate", _evaluate)


def predict() -> None:
    """`recontrast-predict`: scores, decisions and pictures for any images."""
    execute(predict_app("recontrast-predict", method="recontrast"))


def _paper(recipe: str, summary: str) -> None:
    name = f"recontrast-{recipe.replace('_', '-')}"
    experiment(name, _run, {recipe: RECIPES[recipe]}, default=recipe, summary=summary)


def _run(base: str, recipe: Recipe, settings: Settings) -> None:
    """Train and evaluate one model per category, or one for all."""
    from adcommon.data import load_splits

    refuse_two_datasets(recipe.dataset, settings.data, ALL[base].dataset)
    if settings.data is not None:
        recipe = replace(recipe, dataset="folder")
    own_order = CATEGORIES.get(base, ()) if recipe.dataset == ALL[base].dataset else ()
    run(
        recipe,
        load_splits(
            recipe.dataset,
            settings.root(),
            settings.category or own_order,
            meaning=settings.meaning(),
        ),
        settings,
        name=f"recontrast-{base}",
    )


def _evaluate(*, settings: EvaluateSettings) -> None:
    """Evaluate a trained ReContrast on the test images of a dataset."""
    from recontrast.checkpoint import load_trained
    from recontrast.evaluate import pictures, protocols

    evaluate_trained(settings, load_trained, protocols=protocols, pictures=pictures)
