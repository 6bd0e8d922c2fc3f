"""What every evaluation command does: load a model, measure it on a dataset, write and print the report."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from adcommon.io.outputs import clear, reserved
from adcommon.training.settings import EvaluateSettings
from adcommon.types.records import Split

if TYPE_CHECKING:
    import torch

    from adcommon.evaluation.evaluate import Pictures, Protocol
    from adcommon.models.checkpoint import Trained
    from adcommon.types.prediction import Detector

Recipe = TypeVar("Recipe")
WRITTEN = ("results.json", "results.csv", "results.md", "results.html", "summary.md", "maps")
"""What evaluations leave in their folder."""
Find = Callable[[Recipe, Sequence[str]], Mapping[str, Split]]
"""The splits of some categories that a model's recipe is to be tested on."""


def evaluate(*, settings: EvaluateSettings) -> None:
    """Evaluate a trained model of any method on the test images of a dataset."""
    from adcommon.io.model_folder import read_config
    from adcommon.methods import find, load_folder, own_evaluation

    method = read_config(settings.model)["method"]
    find(method)
    if (evaluate_with := own_evaluation(method)) is not None:
        evaluate_with(settings)
        return
    from adcommon.models.checkpoint import Trained

    def load(path: Path, device: "torch.device") -> "Trained[Detector, Mapping[str, Any]]":
        detector, config = load_folder(path, device=device)
        return Trained.of(detector, config["recipe"], config)

    evaluate_trained(settings, load)


def evaluate_trained(
    settings: EvaluateSettings,
    load_trained: "Callable[[Path, torch.device], Trained[Any, Recipe]]",
    *,
    protocols: "Callable[[Recipe], Sequence[Protocol]]" = lambda recipe: (),
    pictures: "Callable[[Recipe], Sequence[Pictures]] | None" = None,
    find: Find[Recipe] | None = None,
) -> "Trained[Any, Recipe]":
    """Measure a trained model on the test images of a dataset; the report goes to `settings.out`.

    Args:
        load_trained: reads the model.
        protocols: the paper's own numbers, as the model's recipe wants them.
        pictures: what to draw with `--maps`; the shared package's if None.
        find: lists the images; `adcommon.data.load_splits` of the settings' dataset if None.

    Returns:
        The model, for whatever else is asked of it.
    """
    from adcommon.data import load_splits
    from adcommon.data.readable import read_tests
    from adcommon.evaluation.evaluate import evaluate as measure
    from adcommon.evaluation.maps import write_maps
    from adcommon.io.cache import default_cache
    from adcommon.io.model_folder import read_config
    from adcommon.models.compute import ask, say_other_precision
    from adcommon.models.devices import choose_device, in_words
    from adcommon.results.rows import row, stamped, text, write_results
    from adcommon.training.logging import start_logging

    start_logging(None)
    with reserved(settings.out, WRITTEN, force=settings.force):
        device = choose_device(settings.gpu, settings.device)
        trained = load_trained(settings.model, device)
        ask(trained.scorer, settings.precision, compiles=settings.compile)
        if settings.model.is_dir():
            say_other_precision(read_config(settings.model), trained.scorer)
        dataset = "folder" if settings.data else settings.dataset or trained.facts.dataset
        categories = settings.category or trained.categories
        splits = (
            find(trained.recipe, categories)
            if find
            else load_splits(dataset, settings.root(), categories, meaning=settings.meaning())
        )
        cache = default_cache("images", enabled=settings.cache)
        read_tests(splits.values(), trained.scorer.preprocess, cache)
        clear(settings.out, WRITTEN)
        began = time.monotonic()
        evaluations = measure(
            trained.scorer,
            {name: split.test for name, split in splits.items()},
            batch_size=settings.batch_size,
            protocols=protocols(trained.recipe),
            cache=cache,
            workers=settings.workers,
            eval_size=settings.eval_size,
            metrics=settings.metrics,
            threshold=trained.threshold,
            maps=settings.out / "maps" if settings.maps else None,
            pictures=(write_maps,) if pictures is None else pictures(trained.recipe),
        )
        facts, seconds = replace(trained.facts, dataset=dataset), time.monotonic() - began
        rows = [row(evaluation, facts, seconds=seconds) for evaluation in evaluations]
        rows = stamped(rows, trained.recipe, in_words(device), settings.note)
        write_results(settings.out, rows)
    print(text(rows))
    return trained
