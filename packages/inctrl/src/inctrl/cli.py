"""The console commands: parse, call, print; torch is imported inside the functions. See also tools_cli."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from cyclopts import App

from adcommon.cli.app import execute, experiment
from adcommon.cli.model_commands import predict_app
from adcommon.errors import BadValue
from adcommon.results.rows import text, write_results
from adcommon.training.jobs import run_jobs
from adcommon.training.logging import start_logging
from inctrl.compat.overrides import as_flags
from inctrl.recipes import MVTEC, RECIPES, VISA, Recipe
from inctrl.results import write_summary
from inctrl.settings import TestSettings, TrainSettings
from inctrl.sources import datasets_of, find_targets, training_records


def train() -> None:
    """`inctrl-train`: train on an auxiliary dataset, test on categories it has not seen."""
    experiment(
        "inctrl-train",
        _run,
        RECIPES,
        default=default_recipe(sys.argv[1:]),
        summary="Train InCTRL on a dataset with labelled anomalies, and test it with k normal images of "
        "categories it has not seen: as the paper does, on any dataset, or on your own images (--data DIR).",
        settings_type=TrainSettings,
        rewrite=partial(as_flags, command="train"),
    )


def quickstart(out: Path, *, force: bool = False) -> None:
    """What `ad quickstart` runs: drawn products to train on, real solar cells to test on."""
    _run("quickstart", RECIPES["quickstart"], TrainSettings(out=out, maps=True, force=force))


def test() -> None:
    """`inctrl-test`: the same as `inctrl-evaluate`, under the authors' name."""
    _execute_evaluation("inctrl-test")


def evaluate() -> None:
    """`inctrl-evaluate`: a trained model, or the authors' checkpoint, on unseen categories."""
    _execute_evaluation("inctrl-evaluate")


def predict() -> None:
    """`inctrl-predict`: scores and pictures for any images, given some normal ones."""
    execute(predict_app("inctrl-predict", method="inctrl"))


def _execute_evaluation(name: str) -> None:
    app = App(
        name=name,
        help="Test InCTRL with k normal images of each category: a CATEGORY is enough, its dataset is found "
        "in --data-root and references are drawn with a seed.",
    )
    app.default(_evaluate)
    execute(app, partial(as_flags, command="test"))


def default_recipe(arguments: Sequence[str]) -> str:
    """The recipe a command line starts from: the paper's for its own data and lists, else that for own data.

    >>> default_recipe([]), default_recipe(["--dataset", "visa"]), default_recipe(["--dataset=synthetic"])
    ('mvtec', 'visa', 'own')
    """
    flags = [argument.partition("=")[0].replace("_", "-") for argument in arguments]
    if "--dataset" in flags:
        place = flags.index("--dataset")
        given = arguments[place].partition("=")[2] or "".join(arguments[place + 1 : place + 2])
        return given if given in (MVTEC.dataset, VISA.dataset) else "own"
    return "own" if {"--data", "--train-data"} & set(flags) else "mvtec"


def _run(base: str, recipe: Recipe, settings: TrainSettings) -> None:
    """Train one model for each number of references, and test each."""
    if settings.train_data is not None:
        recipe = replace(recipe, dataset="folder")
    if settings.data is not None:
        recipe = replace(recipe, test_datasets=("folder",))
    elif recipe.test_datasets == ("folder",):
        if not settings.category and not recipe.val_normal_json_path:
            raise BadValue(
                "what is to be tested? Pass --test-datasets NAME, --category NAME, or --data DIR with images"
            )
        recipe = replace(recipe, test_datasets=datasets_of(settings.category))
    records = training_records(recipe, settings.train_root(), settings.train_category)
    targets = find_targets(recipe, settings.root(), settings.category)

    from inctrl.train import check_inputs
    from inctrl.train import train as train_model

    folder = settings.folder(f"inctrl-{base}")
    rows = run_jobs(
        f"inctrl-{base}",
        recipe,
        settings,
        {f"{shots}-shot": shots for shots in recipe.shots},
        train=lambda shots, run, accelerator, stop: train_model(
            recipe, shots, records, targets, run, accelerator, settings, stop
        ),
        check=lambda: check_inputs(recipe, records, targets, settings),
    )
    if rows:
        print("\n" + write_summary(folder, rows, paper=recipe in (MVTEC, VISA)))


def _evaluate(*, settings: TestSettings = TestSettings()) -> None:  # noqa: B008
    """Test a trained InCTRL on categories it has not seen."""
    from adcommon.models.devices import choose_device
    from inctrl.compat.official import save_checkpoint
    from inctrl.detector import load_trained
    from inctrl.evaluate import evaluate as evaluate_model
    from inctrl.evaluate import report_row, write_scores

    start_logging(None)
    targets = find_targets(_tested(settings), settings.root(), settings.category)
    trained = load_trained(
        settings.find_model(),
        weights=settings.weights,
        backbone=settings.backbone,
        layers=settings.layers,
        device=choose_device(settings.gpu, settings.device),
    )
    if settings.save_official is not None and trained.backbone.clip is None:
        raise BadValue("--save-official: the authors' checkpoints hold a CLIP, and this model is vision-only")
    began = time.monotonic()
    outcomes = list(
        evaluate_model(
            trained,
            targets,
            shots=settings.shots,
            seeds=settings.reference_seeds,
            few_shot_dir=settings.few_shot_dir,
            batch_size=settings.batch_size,
            cache=settings.cache,
            memory_bytes=settings.memory_bytes(),
            eval_size=settings.eval_size,
            maps=settings.out / "maps" if settings.maps else None,
        )
    )
    seconds = time.monotonic() - began
    rows = [report_row(outcome, trained, seconds) for outcome in outcomes]
    write_results(settings.out, rows)
    print(text(rows))
    paper = trained.recipe.backbone == MVTEC.backbone and trained.recipe.is_trained_from in ("mvtec", "visa")
    print("\n" + write_summary(settings.out, rows, paper=paper))
    if settings.output is not None:
        write_scores(settings.output, [(out.target, out.references.name, out.scores) for out in outcomes])
    if settings.save_official is not None and trained.backbone.clip is not None:
        save_checkpoint(settings.save_official, trained.model, trained.backbone.clip)


def _tested(settings: TestSettings) -> Recipe:
    """The recipe fields that say what is tested."""
    lists = {
        name: getattr(settings, name)
        for name in ("normal_json_path", "val_normal_json_path", "val_outlier_json_path")
    }
    if settings.val_normal_json_path or settings.val_outlier_json_path:
        # Only the normal images beside the tested ones matter here: references are drawn from them.
        return replace(MVTEC, **lists, outlier_json_path=lists["normal_json_path"])
    if settings.data is not None:
        names: tuple[str, ...] = ("folder",)
    elif settings.dataset is not None:
        names = (settings.dataset,)
    elif settings.category:
        names = datasets_of(settings.category)
    else:
        raise BadValue(
            "what is to be tested? Pass --category NAME (its dataset is found by itself), --dataset NAME, or "
            "--data DIR with your own images"
        )
    return replace(MVTEC, test_datasets=names)
