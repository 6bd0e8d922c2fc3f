"""What the commands and `inctrl.fit` run: one model of all seen categories. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from adcommon.training.jobs import FitGeneralist, Fitted, run_jobs
from adcommon.types.records import Record, Split
from inctrl.data import labelled
from inctrl.recipes import MVTEC, VISA, Recipe
from inctrl.results import write_summary
from inctrl.settings import TrainSettings


def run(
    recipe: Recipe, records: Sequence[Record], targets: Sequence[Split], settings: TrainSettings, *, name: str
) -> Fitted:
    """Train a model, one for each number of references, and test it on categories it has not seen.

    Args:
        records: all that is trained on, normal and anomalous.
        targets: the categories to test on; none: nothing is tested.
    """
    from inctrl.backbone import fitted
    from inctrl.train import check_inputs, train

    recipe = fitted(recipe, settings.given)
    several = len(recipe.shots) > 1
    done = run_jobs(
        name,
        recipe,
        settings,
        {(f"{shots}-shot" if several else "all"): shots for shots in recipe.shots},
        train=lambda shots, run, accelerator, stop: train(
            recipe, shots, records, targets, run, accelerator, settings, stop
        ),
        check=lambda: check_inputs(recipe, records, targets, settings),
    )
    if done.rows:
        print("\n" + write_summary(done.folder, done.rows, paper=recipe in (MVTEC, VISA)))
    return done


def _fit(
    recipe: Recipe,
    data: Mapping[str, Split],
    targets: Mapping[str, Split],
    settings: TrainSettings,
    *,
    name: str,
) -> Fitted:
    recipe = replace(
        recipe,
        dataset=next(iter(data.values())).dataset,
        test_datasets=tuple(f"{split.dataset}/{category}" for category, split in targets.items()),
    )
    return run(recipe, labelled(data.values()), list(targets.values()), settings, name=name)


fit = FitGeneralist("inctrl", TrainSettings, _fit)
