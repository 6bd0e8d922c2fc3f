"""The console commands of RealNet itself; see also `diffusion.cli`. Torch is imported late."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from adcommon.cli.app import execute, experiment
from adcommon.cli.evaluate import evaluate_trained
from adcommon.cli.list_commands import metadata_app
from adcommon.cli.model_commands import predict_app
from adcommon.data import DATASETS
from adcommon.io.files import refuse_unwritable
from adcommon.training.recipes import recipe_for, refuse_two_datasets
from adcommon.training.settings import SETTINGS_GROUP, EvaluateSettings, Settings
from adcommon.types.records import Split
from realnet.ablations import ABLATIONS, ALL
from realnet.compat.config import read_config
from realnet.data import find_splits, on_own_images
from realnet.experiment import run
from realnet.published import PUBLISHED
from realnet.recipes import RECIPES, Recipe

Categories = Annotated[
    tuple[str, ...],
    Parameter(alias="--class-name", consume_multiple=True, negative=(), show_default=False),
]


@Parameter(name="*", group=SETTINGS_GROUP, negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    """What a training takes besides."""

    category: Categories = ()
    """Categories to run, `all` for every one. [default: the dataset's first, as the paper's command; of own
    images all]"""


@Parameter(name="*", negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class RealNetSettings(EvaluateSettings):
    """What an evaluation of RealNet takes besides."""

    category: Categories = ()
    """Categories to evaluate, `all` for every one. [default: the one the model was trained on]"""
    vis: Literal["panel", "triptych"] = "panel"
    """Kind of the pictures of --maps: `panel`, or the paper's image, truth and heat map side by side, with
    the outline at the threshold of the best pixel F1."""
    reference_auroc: bool = False
    """In the paper's columns, replace an AUROC below 0.5 by one minus it, as the reference does."""
    save_official: Path | None = None
    """File for the model in the layout of the authors' checkpoints."""


def train() -> None:
    """`realnet-train`: the paper's experiments, any dataset of the catalogue, or a folder of images."""
    experiment(
        "realnet-train",
        _run,
        RECIPES,
        default=partial(recipe_for, papers=PUBLISHED, own=("--data", "--meta-train")),
        summary="Train one RealNet per category: of MVTec AD, MPDD, BTAD or VisA as the paper does, of any "
        "dataset (--dataset), or of your own images (--data DIR).",
        read_config=read_config,
        settings_type=TrainSettings,
        ablations=ABLATIONS,
        published=PUBLISHED,
    )


def quickstart(out: Path, *, force: bool = False) -> None:
    """What `ad quickstart` runs: real solar cells, a backbone whose weights are installed."""
    settings = TrainSettings(category=("mono",), out=out, maps=True, force=force)
    _run("quickstart", RECIPES["quickstart"], settings)


def predict() -> None:
    """`realnet-predict`: scores, decisions and pictures for any images."""
    execute(predict_app("realnet-predict", method="realnet"))


def evaluate() -> None:
    """`realnet-evaluate`: a trained model, or the authors' checkpoint, on the test images of any dataset."""
    app = App(name="realnet-evaluate", help="Evaluate a trained RealNet on the test images of a dataset.")
    app.default(_evaluate)
    execute(app)


def metadata() -> None:
    """`realnet-metadata`: the authors' lists of a dataset."""
    summary = (
        "Write the lists of a dataset that the authors' code reads: train_CATEGORY.json and "
        "test_CATEGORY.json of each category, train_uni.json and test_uni.json of all."
    )
    execute(metadata_app("realnet-metadata", summary, per_category=True, out=Path("samples")))


def _run(base: str, recipe: Recipe, settings: Settings) -> None:
    """Train and evaluate one model per category."""
    refuse_two_datasets(recipe.dataset, settings.data, ALL[base].dataset)
    recipe = on_own_images(recipe, settings)
    run(
        recipe,
        find_splits(
            recipe,
            settings.root(),
            settings.category or _first_category(base, recipe),
            settings.meaning(),
        ),
        settings,
        name=f"realnet-{base}",
    )


def _first_category(base: str, recipe: Recipe) -> tuple[str, ...]:
    """What is trained unasked, by the paper's recipes on their own data; of all other data everything."""
    if base in PUBLISHED and recipe.dataset == ALL[base].dataset:
        return DATASETS[recipe.dataset].categories[:1]  # Faithful: the authors' command trains this one
    return ()


def _evaluate(*, settings: RealNetSettings) -> None:
    """Evaluate a trained RealNet on the test images of a dataset."""
    from adcommon.evaluation.maps import write_maps
    from realnet.checkpoint import load_trained, save_official
    from realnet.evaluate import protocols, write_triptychs

    refuse_unwritable(settings.save_official)

    def find(recipe: Recipe, categories: Sequence[str]) -> Mapping[str, Split]:
        if named := "folder" if settings.data else settings.dataset:
            recipe = replace(recipe, dataset=named, meta_train=None, meta_test=None)
        return find_splits(recipe, settings.root(), categories, settings.meaning())

    trained = evaluate_trained(
        settings,
        load_trained,
        protocols=lambda recipe: protocols(replace(recipe, reference_auroc=settings.reference_auroc)),
        pictures=lambda _: [write_maps if settings.vis == "panel" else write_triptychs],
        find=find,
    )
    if settings.save_official is not None:
        save_official(settings.save_official, trained, settings.model)
