"""The console commands of RealNet itself; torch is imported inside the functions. See also diffusion_cli."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from adcommon.cli.app import execute, experiment
from adcommon.cli.model_commands import predict_app
from adcommon.data import DATASETS
from adcommon.results.rows import text, write_results
from adcommon.training.jobs import run_jobs
from adcommon.training.logging import start_logging
from adcommon.training.settings import SETTINGS_GROUP, EvaluateSettings, Settings
from realnet.compat.config import read_config
from realnet.data import find_splits, on_own_images
from realnet.diffusion.recipes import default_recipe
from realnet.published import PUBLISHED
from realnet.recipes import RECIPES, Recipe

ALL = "all"
"""What stands for every category of a dataset."""
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
        default=default_recipe(sys.argv[1:]),
        summary="Train one RealNet per category: of MVTec AD, MPDD, BTAD or VisA as the paper does, of any "
        "dataset (--dataset), or of your own images (--data DIR).",
        read_config=read_config,
        settings_type=TrainSettings,
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
    app = App(
        name="realnet-metadata",
        help="Write the lists of a dataset that the authors' code reads, a pair per category and one of all.",
    )
    app.default(_metadata)
    execute(app)


def _run(base: str, recipe: Recipe, settings: Settings) -> None:
    """Train and evaluate one model per category; tables are written after each."""
    recipe = on_own_images(recipe, settings)
    splits = find_splits(recipe, settings.root(), _categories(base, recipe, settings))

    from realnet.train import check_inputs
    from realnet.train import train as train_model

    run_jobs(
        f"realnet-{base}",
        recipe,
        settings,
        {category: (category, split) for category, split in splits.items()},
        train=lambda job, run, accelerator, stop: train_model(recipe, *job, run, accelerator, settings, stop),
        check=lambda: check_inputs(recipe, splits, settings),
        published=PUBLISHED.get(base) if _unchanged(recipe, base) else None,
    )


def _categories(base: str, recipe: Recipe, settings: Settings) -> tuple[str, ...]:
    """The categories to train; none stands for all."""
    if settings.category:
        return _chosen(settings.category)
    if base in PUBLISHED and recipe.dataset == RECIPES[base].dataset:
        return DATASETS[recipe.dataset].categories[:1]  # Faithful: the authors' command trains this one
    return ()


def _unchanged(recipe: Recipe, base: str) -> bool:
    """True if nothing differs from a recipe of the paper but where files are."""
    return asdict(replace(recipe, sdas_dir=None, dtd_dir=None)) == asdict(RECIPES[base])


def _chosen(categories: Sequence[str]) -> tuple[str, ...]:
    """The categories by name; none stands for all."""
    return () if ALL in categories else tuple(categories)


def _evaluate(*, settings: RealNetSettings) -> None:
    """Evaluate a trained RealNet on the test images of a dataset."""
    from adcommon.io.cache import default_cache
    from adcommon.models.devices import choose_device
    from realnet.checkpoint import load_any
    from realnet.evaluate import evaluate as evaluate_model
    from realnet.evaluate import report_row

    start_logging(None)
    trained = load_any(settings.model, choose_device(settings.gpu, settings.device))
    recipe = replace(
        trained.recipe,
        dataset="folder" if settings.data else settings.dataset or trained.recipe.dataset,
        test_batch_size=settings.batch_size,
        reference_auroc=settings.reference_auroc,
    )
    if settings.data or settings.dataset:
        recipe = replace(recipe, meta_train=None, meta_test=None)
    categories = _chosen(settings.category) if settings.category else trained.categories
    splits = find_splits(recipe, settings.root(), categories)
    began = time.monotonic()
    evaluations = evaluate_model(
        trained.detector,
        {name: split.test for name, split in splits.items()},
        recipe,
        cache=default_cache("images", enabled=settings.cache),
        workers=settings.workers,
        eval_size=settings.eval_size,
        threshold=trained.threshold,
        maps=settings.out / "maps" if settings.maps else None,
        kind=settings.vis,
    )
    seconds = time.monotonic() - began
    rows = [report_row(evaluation, recipe, trained.weights, seconds) for evaluation in evaluations]
    write_results(settings.out, rows)
    print(text(rows))
    if settings.save_official is not None:
        trained.save_official(settings.save_official)


def _metadata(
    *,
    dataset: Annotated[str, Parameter(alias="--layout")] = "mvtec",
    data_root: Path | None = None,
    data: Path | None = None,
    category: Categories = (),
    out: Path = Path("samples"),
) -> None:
    """Write train_CATEGORY.json, test_CATEGORY.json, train_uni.json and test_uni.json of a dataset.

    Args:
        dataset: Dataset name; `ad datasets` lists them.
        data_root: Folder that holds the datasets, or the dataset itself. [default: $AD_DATA, else ./data]
        data: A folder of my own images; short for `--dataset folder --data-root DIR`.
        category: Categories to list. [default: all]
        out: Folder for the lists; paths in them begin at the dataset's folder.
    """
    from adcommon.data import load_splits
    from adcommon.data.lists.manifest import write_manifest
    from adcommon.data.sources.access import find_dataset, locate

    name = "folder" if data else dataset
    root = data or Settings(data_root=data_root).root()
    splits = load_splits(name, root, _chosen(category))
    where = root if name == "folder" else locate(find_dataset(name), root)
    for path in write_manifest("lines", out, splits, where, per_category=True):
        print(path)
