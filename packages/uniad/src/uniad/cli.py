"""The console commands: parse, call, print; torch is imported inside the functions. See also picture_cli."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from adcommon.cli.app import execute, experiment
from adcommon.cli.model_commands import predict_app
from adcommon.results.rows import text, write_results
from adcommon.training.jobs import run_jobs
from adcommon.training.logging import start_logging
from adcommon.training.settings import EvaluateSettings, Settings
from adcommon.types.records import Split
from uniad.compat.config import read_config
from uniad.published import PUBLISHED
from uniad.recipes import RECIPES, Recipe
from uniad.sources import find_splits, on_own_images


def train() -> None:
    """`uniad-train`: the paper's experiments, any dataset of the catalogue, or a folder of images."""
    experiment(
        "uniad-train",
        _run,
        RECIPES,
        default=default_recipe(sys.argv[1:]),
        summary="Train one UniAD for all categories: of MVTec AD as the paper does, of any dataset "
        "(--dataset), or of your own images (--data DIR).",
        read_config=read_config,
    )


def quickstart(out: Path, *, force: bool = False) -> None:
    """What `ad quickstart` runs: both kinds of real solar cells in one model."""
    _run("quickstart", RECIPES["quickstart"], Settings(out=out, maps=True, force=force))


def predict() -> None:
    """`uniad-predict`: scores, decisions and pictures for any images."""
    execute(predict_app("uniad-predict", method="uniad", official=True))


def evaluate() -> None:
    """`uniad-evaluate`: a trained model, or the authors' checkpoint, on the test images of any dataset."""
    app = App(name="uniad-evaluate", help="Evaluate a trained UniAD on the test images of a dataset.")
    app.default(_evaluate)
    execute(app)


def metadata() -> None:
    """`uniad-metadata`: the authors' lists of a dataset."""
    app = App(
        name="uniad-metadata", help="Write train.json and test.json of a dataset, as the authors' code reads."
    )
    app.default(_metadata)
    execute(app)


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


def default_recipe(arguments: Sequence[str]) -> str:
    """The recipe a command line starts from: the dataset's own if the paper has it, else that for own data.

    >>> default_recipe([]), default_recipe(["--dataset", "visa"]), default_recipe(["--data", "images"])
    ('mvtec', 'visa', 'own')
    """
    flags = [argument.partition("=")[0].replace("_", "-") for argument in arguments]
    if "--dataset" in flags:
        place = flags.index("--dataset")
        given = arguments[place].partition("=")[2] or "".join(arguments[place + 1 : place + 2])
        return given if given in RECIPES else "own"
    return "own" if {"--data", "--meta-train"} & set(flags) else "mvtec"


def _run(base: str, recipe: Recipe, settings: Settings) -> None:
    """Train and evaluate one model for all categories, or one for each."""
    recipe = on_own_images(recipe, settings)
    splits = find_splits(recipe, settings.root(), settings.category)
    jobs: Mapping[str, Mapping[str, Split]] = (
        {"all": splits} if recipe.multiclass else {name: {name: split} for name, split in splits.items()}
    )

    from uniad.train import check_inputs
    from uniad.train import train as train_model

    run_jobs(
        f"uniad-{base}",
        recipe,
        settings,
        jobs,
        train=lambda job, run, accelerator, stop: train_model(recipe, job, run, accelerator, settings, stop),
        check=lambda: check_inputs(recipe, splits, settings),
        published=PUBLISHED.get(base) if asdict(recipe) == asdict(RECIPES[base]) else None,
    )


def _evaluate(*, settings: UniADSettings) -> None:
    """Evaluate a trained UniAD on the test images of a dataset."""
    from adcommon.io.cache import default_cache
    from adcommon.models.devices import choose_device
    from uniad.checkpoint import load_any
    from uniad.evaluate import evaluate as evaluate_model
    from uniad.evaluate import report_row, save_features

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
    tests = {
        name: split.test
        for name, split in find_splits(
            recipe, settings.root(), settings.category or trained.categories
        ).items()
    }
    began = time.monotonic()
    evaluations = evaluate_model(
        trained.detector,
        tests,
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
    if settings.save_features is not None:
        save_features(trained.detector, tests, settings.save_features, batch_size=settings.batch_size)
    if settings.save_official is not None:
        trained.save_official(settings.save_official)


def _metadata(
    *,
    dataset: Annotated[str, Parameter(alias="--layout")] = "mvtec",
    data_root: Path | None = None,
    data: Path | None = None,
    category: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    out: Path = Path(),
) -> None:
    """Write train.json and test.json of a dataset, as the authors' code reads.

    Args:
        dataset: Dataset name; `ad datasets` lists them.
        data_root: Folder that holds the datasets, or the dataset itself. [default: $AD_DATA, else ./data]
        data: A folder of my own images; short for `--dataset folder --data-root DIR`.
        category: Categories to list. [default: all]
        out: Folder for the two lists; paths in them begin at the dataset's folder.
    """
    from adcommon.data import load_splits
    from adcommon.data.lists.manifest import write_manifest
    from adcommon.data.sources.access import find_dataset, locate

    name = "folder" if data else dataset
    root = data or Settings(data_root=data_root).root()
    splits = load_splits(name, root, category)
    where = root if name == "folder" else locate(find_dataset(name), root)
    for path in write_manifest("lines", out, splits, where):
        print(path)
