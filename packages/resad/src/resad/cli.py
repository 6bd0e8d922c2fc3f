"""The console commands: parse, call, print; torch is imported inside the functions."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from adcommon.cli.app import command, execute, experiment
from adcommon.cli.evaluate import WRITTEN
from adcommon.cli.model_commands import predict_app
from adcommon.errors import UserError
from adcommon.io.outputs import clear, reserved
from adcommon.results.rows import stamped, text, write_results
from adcommon.training.logging import start_logging
from adcommon.training.recipes import flags_of
from adcommon.training.settings import EvaluateSettings
from adcommon.types.records import Split
from resad.ablations import ABLATIONS
from resad.experiment import run
from resad.published import PUBLISHED
from resad.recipes import FOLDER, IMAGEBIND_TAG, RECIPES, Recipe
from resad.settings import TestSettings, TrainSettings


def train() -> None:
    """`resad-train`: train on one dataset, test on the unseen categories of another."""
    experiment(
        "resad-train",
        _run,
        RECIPES,
        default=_default_recipe,
        summary="Train ResAD on one dataset and test it on another's categories (--setting), or on your own "
        "images (--data DIR). From these it does not learn: some of their normal training images serve as "
        "references. Own images are compared by a model of drawn products, unless --setting names another.",
        settings_type=TrainSettings,
        ablations=ABLATIONS,
        published={"paper": PUBLISHED["visa_to_mvtec"]},
    )


def multishot() -> None:
    """`resad-multishot`: one training, evaluated with 2, 4, 6 and 8 references."""
    experiment(
        "resad-multishot",
        partial(_run, multishot=True),
        {"multishot": RECIPES["multishot"], "quickstart": RECIPES["quickstart"]},
        default="multishot",
        summary="Train ResAD once and evaluate it with 2, 4, 6 and 8 references: tables, charts, both plots.",
        settings_type=TrainSettings,
    )


def quickstart(out: Path, *, force: bool = False) -> None:
    """What `ad quickstart` runs: drawn products to train on, real solar cells to test on."""
    settings = TrainSettings(category=("mono",), out=out, maps=True, force=force)
    _run("quickstart", RECIPES["quickstart"], settings, multishot=True)


def evaluate() -> None:
    """`resad-evaluate`: a trained model on the unseen categories of any dataset."""
    command("resad-evaluate", _evaluate)


def predict() -> None:
    """`resad-predict`: scores, decisions and pictures for any images."""
    execute(predict_app("resad-predict", method="resad"))


def _default_recipe(words: Sequence[str]) -> str:
    """Whose defaults hold: ImageBind's for that backbone, `own` for a user's images, else the authors'."""
    own = "--data" in flags_of(words)
    if any(word.partition("=")[2] == IMAGEBIND_TAG or word == IMAGEBIND_TAG for word in words):
        return "imagebind_own" if own else "imagebind"
    return "own" if own else "paper"


def _run(base: str, recipe: Recipe, settings: TrainSettings, *, multishot: bool = False) -> None:
    """Train one model on the seen categories and evaluate it on the unseen ones."""
    if settings.data is not None:
        recipe = recipe.tested_on(FOLDER)
    seen, unseen = _load(recipe, settings)
    run(
        recipe,
        seen,
        unseen,
        settings,
        name="resad-multishot" if multishot else f"resad-{base}",
        multishot=multishot,
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
            said = settings.meaning().on(dataset, recipe.train_dataset, recipe.test_dataset)
            found.append(load_splits(dataset, root, categories, meaning=said))
        except UserError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise UserError(f"both datasets of {recipe.setting} are missing.\n" + "\n".join(map(str, problems)))
    return found[0], found[1]


def evaluate_with(settings: EvaluateSettings) -> None:
    """What `ad evaluate` does with a model of ResAD."""
    _evaluate(settings=TestSettings(**vars(settings)))


def _evaluate(*, settings: TestSettings) -> None:
    """Evaluate a trained ResAD on the categories of a dataset."""
    from adcommon.data import load_splits
    from adcommon.data.readable import read_tests
    from adcommon.io.cache import default_cache
    from adcommon.models.devices import choose_device, in_words
    from resad.checkpoint import load_trained
    from resad.evaluate import evaluate as evaluate_model
    from resad.evaluate import facts, report_rows
    from resad.references import ReferenceSource, make_targets

    start_logging(None)
    with reserved(settings.out, WRITTEN, force=settings.force):
        device = choose_device(settings.gpu, settings.device)
        trained = load_trained(settings.model, device, given=_given(settings), weights=settings.weights)
        compute = trained.scorer.compute.asked(settings.precision, compiles=settings.compile)
        own, model = trained.recipe, replace(trained.scorer, compute=compute)
        dataset = FOLDER if settings.data else settings.dataset or own.test_dataset
        recipe = replace(
            own.tested_on(dataset),
            shots=settings.shots or own.shots,
            reference_seeds=settings.reference_seeds or own.reference_seeds,
            test_batch_size=settings.batch_size,
            pro=settings.pro or own.pro,
        )
        known = trained.categories if dataset == own.test_dataset else ()
        splits = load_splits(
            dataset, settings.test_root(), settings.category or known, meaning=settings.meaning()
        )
        cache = default_cache("images", enabled=settings.cache)
        read_tests(splits.values(), model.preprocess, cache)
        targets = make_targets(
            splits,
            model.backbone,
            model.preprocess,
            recipe,
            ReferenceSource(
                features=settings.test_ref_feature_dir, images=settings.few_shot_dir, aligned=settings.aligned
            ),
            cache=cache,
            memory_bytes=settings.memory_bytes(),
            workers=settings.workers,
            compute=model.compute,
        )
        clear(settings.out, WRITTEN)
        began = time.monotonic()
        measured = list(
            evaluate_model(
                model,
                targets,
                recipe,
                eval_size=settings.eval_size,
                metrics=settings.metrics,
                false_alarm_rate=settings.false_alarm_rate,
                maps=settings.save_maps or (settings.out / "maps" if settings.maps else None),
            )
        )
        seconds = time.monotonic() - began
        rows = report_rows(measured, facts(recipe, trained.facts.weights), seconds=seconds)
        rows = stamped(rows, recipe, in_words(device), settings.note)
        write_results(settings.out, rows)
    print(text(rows))


def _given(settings: TestSettings) -> Recipe:
    """What a checkpoint of the authors does not say of itself."""
    if settings.backbone == IMAGEBIND_TAG:
        return RECIPES["imagebind"]
    return replace(
        RECIPES["paper"],
        backbone=settings.backbone,
        image_size=settings.image_size,
        feature_levels=settings.feature_levels,
    )
