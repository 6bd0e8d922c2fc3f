"""The console commands: parse, call, print; torch is imported inside the functions."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from cyclopts import App

from adcommon.cli.app import execute, experiment
from adcommon.cli.model_commands import predict_app
from adcommon.errors import UserError
from adcommon.results.rows import text, write_results
from adcommon.training.logging import start_logging
from adcommon.training.run import RunGroup
from adcommon.training.stop import StopSignal
from adcommon.types.records import Split
from resad.published import PUBLISHED
from resad.recipes import CATEGORIES, FOLDER, IMAGEBIND_TAG, RECIPES, Recipe
from resad.settings import TestSettings, TrainSettings


def train() -> None:
    """`resad-train`: train on one dataset, test on the unseen categories of another."""
    experiment(
        "resad-train",
        _train,
        RECIPES,
        default=_default_recipe(sys.argv[1:]),
        summary="Train ResAD on one dataset and test it on another's categories (--setting), or on your own "
        "images (--data DIR).",
        settings_type=TrainSettings,
    )


def multishot() -> None:
    """`resad-multishot`: one training, evaluated with 2, 4, 6 and 8 references."""
    experiment(
        "resad-multishot",
        _multishot,
        {"multishot": RECIPES["multishot"], "quickstart": RECIPES["quickstart"]},
        default="multishot",
        summary="Train ResAD once and evaluate it with 2, 4, 6 and 8 references: tables, charts, both plots.",
        settings_type=TrainSettings,
    )


def quickstart(out: Path, *, force: bool = False) -> None:
    """What `ad quickstart` runs: drawn products to train on, real solar cells to test on."""
    settings = TrainSettings(category=("mono",), out=out, maps=True, force=force)
    _multishot("quickstart", RECIPES["quickstart"], settings)


def evaluate() -> None:
    """`resad-evaluate`: a trained model on the unseen categories of any dataset."""
    app = App(name="resad-evaluate", help="Evaluate a trained ResAD on the categories of a dataset.")
    app.default(_evaluate)
    execute(app)


def predict() -> None:
    """`resad-predict`: scores, decisions and pictures for any images."""
    execute(predict_app("resad-predict", method="resad"))


def extract() -> None:
    """`resad-extract`: reference features of a dataset, written once."""
    from resad.multishot.commands import extract_app

    execute(extract_app())


def plot_shots() -> None:
    """`resad-plot-shots`: AUROC against the number of references."""
    from resad.multishot.commands import plot_shots_app

    execute(plot_shots_app())


def plot_classes() -> None:
    """`resad-plot-classes`: one metric of every category, the worst in red."""
    from resad.multishot.commands import plot_classes_app

    execute(plot_classes_app())


def align() -> None:
    """`resad-align`: for each test image the training images that look most like it."""
    from resad.multishot.commands import align_app

    execute(align_app())


def _default_recipe(words: Sequence[str]) -> str:
    """Whose defaults hold: ImageBind's for that backbone, `own` for a user's images, else the authors'."""
    flags = {word.replace("_", "-").partition("=")[0] for word in words}
    if any(word.partition("=")[2] == IMAGEBIND_TAG or word == IMAGEBIND_TAG for word in words):
        return "imagebind"
    return "own" if "--data" in flags else "paper"


def _train(base: str, recipe: Recipe, settings: TrainSettings) -> None:
    _run(base, recipe, settings, multishot=False)


def _multishot(base: str, recipe: Recipe, settings: TrainSettings) -> None:
    _run(base, recipe, settings, multishot=True)


def _run(base: str, recipe: Recipe, settings: TrainSettings, *, multishot: bool) -> None:
    """Train one model on the seen categories and evaluate it on the unseen ones."""
    if settings.data is not None:
        recipe = replace(recipe, setting=f"{recipe.setting.partition('_to_')[0]}_to_{FOLDER}")
    seen, unseen = _load(recipe, settings)

    from adcommon.models.devices import choose_device
    from adcommon.training.devices import start
    from resad.train import check_inputs
    from resad.train import train as train_model

    start_logging(None)
    accelerator = start(choose_device(settings.gpu, settings.device))
    main = accelerator.is_main_process
    name = "resad-multishot" if multishot else f"resad-{base}"
    with accelerator.main_process_first():  # the others find the folder as it is to be
        group = RunGroup(
            settings.folder(name), resume=settings.resume or not main, force=settings.force and main
        )
        if main:
            start_logging(group.folder)
            group.write_recipe({**asdict(recipe), **settings.as_flags()})
            check_inputs(recipe, seen, unseen, settings)
    faithful = replace(RECIPES["paper"], setting=recipe.setting)
    published = PUBLISHED.get(recipe.setting) if recipe == faithful else None

    with StopSignal() as stop:
        run = group.run("model_of_all")
        rows = run.finished()
        if rows is None:
            rows = train_model(recipe, seen, unseen, run, accelerator, settings, stop, multishot=multishot)
            if main:
                run.finish(rows)
    if main:
        group.write_results(rows, published)
        print(text(rows, published))
        print(
            f"\nmodel, tables and logs are in {group.folder}, the authors' files in {settings.checkpoints()}"
        )


def _load(recipe: Recipe, settings: TrainSettings) -> tuple[dict[str, Split], dict[str, Split]]:
    """Both datasets' images; what is missing of either is said at once."""
    from adcommon.data import load_splits

    wanted = (
        (recipe.train_dataset, settings.train_root(), settings.train_category),
        (recipe.test_dataset, settings.test_root(), settings.category),
    )
    found: list[dict[str, Split]] = []
    problems: list[UserError] = []
    for dataset, root, categories in wanted:
        try:
            found.append(load_splits(dataset, root, categories or CATEGORIES.get(dataset, ())))
        except UserError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise UserError(f"both datasets of {recipe.setting} are missing.\n" + "\n".join(map(str, problems)))
    return found[0], found[1]


def _evaluate(*, settings: TestSettings) -> None:
    """Evaluate a trained ResAD on the categories of a dataset."""
    from adcommon.data import load_splits
    from adcommon.io.cache import default_cache
    from adcommon.models.devices import choose_device
    from resad.compat.official import load_official_trained
    from resad.detector import load_trained
    from resad.evaluate import evaluate as evaluate_model
    from resad.evaluate import report_row
    from resad.targets import ReferenceSource, make_targets

    start_logging(None)
    device = choose_device(settings.gpu, settings.device)
    if settings.model.is_file():
        given = RECIPES["imagebind"]
        if settings.backbone != IMAGEBIND_TAG:
            given = replace(
                RECIPES["paper"],
                backbone=settings.backbone,
                image_size=settings.image_size,
                feature_levels=settings.feature_levels,
            )
        trained = load_official_trained(settings.model, given, settings.weights, device)
    else:
        trained = load_trained(settings.model, device)
    config, own = trained.config, trained.recipe
    dataset = FOLDER if settings.data else settings.dataset or own.test_dataset
    recipe = replace(
        own,
        setting=f"{own.setting.partition('_to_')[0]}_to_{dataset}",
        shots=settings.shots or own.shots,
        reference_seeds=settings.reference_seeds or own.reference_seeds,
        test_batch_size=settings.batch_size,
        pro=settings.pro or own.pro,
    )
    known = config["categories"] if dataset == own.test_dataset else CATEGORIES.get(dataset, ())
    splits = load_splits(dataset, settings.test_root(), settings.category or known)
    targets = make_targets(
        splits,
        trained.backbone,
        trained.preprocess,
        recipe,
        ReferenceSource(
            features=settings.test_ref_feature_dir, images=settings.few_shot_dir, aligned=settings.aligned
        ),
        cache=default_cache("images", enabled=settings.cache),
        memory_bytes=settings.memory_bytes(),
    )
    threshold = config["threshold"]
    began = time.monotonic()
    measured = [
        (outcome, evaluation)
        for outcome, evaluations, _ in evaluate_model(
            trained.model,
            trained.preprocess,
            targets,
            recipe,
            trained.scale,
            eval_size=settings.eval_size,
            thresholds=threshold and {max(own.shots): threshold["value"]},
            maps=settings.save_maps or (settings.out / "maps" if settings.maps else None),
        )
        for evaluation in evaluations
    ]
    seconds = time.monotonic() - began
    weights = config["weights"]
    rows = [report_row(evaluation, outcome, recipe, weights, seconds) for outcome, evaluation in measured]
    write_results(settings.out, rows)
    print(text(rows))
