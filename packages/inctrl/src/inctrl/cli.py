"""The console commands: parse, call, print; torch is imported inside the functions.

Those about the authors' files are in `compat.cli`, that of the baseline in `winclip.cli`.
"""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from adcommon.cli.app import command, execute, experiment
from adcommon.cli.evaluate import WRITTEN
from adcommon.cli.model_commands import predict_app
from adcommon.errors import BadValue, DatasetNotFound, WrongCheckpoint
from adcommon.io.files import refuse_unwritable
from adcommon.io.model_folder import read_config
from adcommon.io.outputs import clear, reserved
from adcommon.io.schema import convert
from adcommon.results.rows import stamped, text, write_results
from adcommon.training.logging import start_logging
from adcommon.training.recipes import recipe_for
from adcommon.training.settings import EvaluateSettings
from inctrl.ablations import ABLATIONS
from inctrl.compat.overrides import as_flags
from inctrl.data import datasets_asked_for, find_targets, listed_targets, training_records
from inctrl.experiment import run
from inctrl.published import MEANS
from inctrl.recipes import MVTEC, RECIPES, Recipe
from inctrl.results import write_summary
from inctrl.settings import TestSettings, TrainSettings


def train() -> None:
    """`inctrl-train`: train on an auxiliary dataset, test on categories it has not seen."""
    experiment(
        "inctrl-train",
        _run,
        RECIPES,
        default=partial(recipe_for, papers=("mvtec", "visa"), own=("--data", "--train-data")),
        summary="Train InCTRL on a dataset with labelled anomalies (--dataset, or your own: --train-data "
        "DIR), and test it on categories it has not seen (--data DIR: your own). From these it does not "
        "learn: k of their normal training images serve as references.",
        settings_type=TrainSettings,
        rewrite=partial(as_flags, command="train"),
        ablations=ABLATIONS,
        published=MEANS,
    )


def quickstart(out: Path, *, force: bool = False) -> None:
    """What `ad quickstart` runs: drawn products to train on, real solar cells to test on."""
    _run("quickstart", RECIPES["quickstart"], TrainSettings(out=out, maps=True, force=force))


def test() -> None:
    """`inctrl-test`: the same as `inctrl-evaluate`, under the authors' name."""
    command("inctrl-test", _evaluate, partial(as_flags, command="test"))


def evaluate() -> None:
    """`inctrl-evaluate`: a trained model, or the authors' checkpoint, on unseen categories."""
    command("inctrl-evaluate", _evaluate, partial(as_flags, command="test"))


def predict() -> None:
    """`inctrl-predict`: scores and pictures for any images, given some normal ones."""
    execute(predict_app("inctrl-predict", method="inctrl"))


def _run(base: str, recipe: Recipe, settings: TrainSettings) -> None:
    """Train one model for each number of references, and test each."""
    if settings.train_data is not None:
        recipe = replace(recipe, dataset="folder")
    listed = bool(recipe.val_normal_json_path)
    if not listed and (settings.data is not None or recipe.test_datasets == ("folder",)):
        names = datasets_asked_for(settings.data, None, settings.category)
        recipe = replace(recipe, test_datasets=names)
    meaning = settings.meaning()
    try:
        records = training_records(recipe, settings.train_root(), settings.train_category, meaning)
    except DatasetNotFound as error:
        raise DatasetNotFound(
            f"{error}\n  InCTRL learns from another dataset than the one it is tested on: name one with "
            "labelled anomalies by --train-data DIR (your own images), or draw one with --dataset synthetic."
        ) from None
    targets = (
        listed_targets(recipe, settings.root(), settings.category)
        if listed
        else find_targets(
            recipe.test_datasets,
            settings.root(),
            settings.category,
            meaning.on("folder" if "folder" in recipe.test_datasets else "", recipe.dataset),
        )
    )
    run(recipe, records, targets, settings, name=f"inctrl-{base}")


def evaluate_with(settings: EvaluateSettings) -> None:
    """What `ad evaluate` does with a model of InCTRL."""
    _evaluate(settings=TestSettings(**vars(settings)))


def _evaluate(*, settings: TestSettings = TestSettings()) -> None:  # noqa: B008
    """Test InCTRL with k normal images of each category: a CATEGORY is enough.

    Its dataset is found in --data-root, and references are drawn with a seed.
    """
    start_logging(None)
    refuse_unwritable(settings.output, settings.save_official)
    if settings.val_normal_json_path:
        targets = listed_targets(settings, settings.root(), settings.category)
    else:
        targets = find_targets(_tested(settings), settings.root(), settings.category, settings.meaning())

    from adcommon.data.readable import read_tests
    from adcommon.io.cache import default_cache
    from adcommon.models.devices import choose_device, in_words
    from inctrl.checkpoint import load_trained
    from inctrl.compat.official import save_checkpoint
    from inctrl.evaluate import evaluate as evaluate_model
    from inctrl.evaluate import rows_of, write_scores

    with reserved(settings.out, WRITTEN, force=settings.force):
        device = choose_device(settings.gpu, settings.device)
        trained = load_trained(
            settings.find_model(),
            device,
            weights=settings.weights,
            backbone=settings.backbone,
            layers=settings.layers,
        )
        compute = trained.scorer.compute.asked(settings.precision, compiles=settings.compile)
        trained = replace(trained, scorer=replace(trained.scorer, compute=compute))
        model, clip = trained.scorer.model, trained.scorer.backbone.clip
        if settings.save_official is not None and clip is None:
            raise BadValue(
                "--save-official: the authors' checkpoints hold a CLIP, and this model is vision-only"
            )
        cache = default_cache("images", enabled=settings.cache)
        read_tests(targets, trained.scorer.preprocess, cache)
        clear(settings.out, WRITTEN)
        began = time.monotonic()
        outcomes = list(
            evaluate_model(
                trained,
                targets,
                settings,
                shots=settings.shots,
                seeds=settings.reference_seeds,
                batch_size=settings.batch_size,
                maps=settings.out / "maps" if settings.maps else None,
            )
        )
        rows = rows_of(outcomes, trained, seconds=time.monotonic() - began)
        rows = stamped(rows, trained.recipe, in_words(device), settings.note)
        write_results(settings.out, rows)
        print(text(rows))
        recipe = trained.recipe
        full = (recipe.backbone, recipe.parts) == (MVTEC.backbone, MVTEC.parts)
        paper = full and trained.facts.dataset in ("mvtec", "visa")
        print("\n" + write_summary(settings.out, rows, paper=paper))
    if settings.output is not None:
        scored = [(out.facts.dataset, str(out.facts.references), out.scores) for out in outcomes]
        write_scores(settings.output, scored)
    if settings.save_official is not None and clip is not None:
        save_checkpoint(settings.save_official, model, clip)


def _tested(settings: TestSettings) -> tuple[str, ...]:
    """The datasets to test on: what the flags ask for, else those that the model's training tested."""
    asked = settings.data is not None or settings.dataset is not None or settings.category
    if not asked and settings.model is not None and settings.model.is_dir():
        recipe = read_config(settings.model, "inctrl").get("recipe")
        names = recipe.get("test_datasets", ()) if isinstance(recipe, dict) else ()
        where = f"{settings.model}: recipe.test_datasets"
        known: tuple[str, ...] = convert(names, tuple[str, ...], where, error=WrongCheckpoint)
        if known and not any(name.startswith("folder") for name in known):
            return known
    return datasets_asked_for(settings.data, settings.dataset, settings.category)
