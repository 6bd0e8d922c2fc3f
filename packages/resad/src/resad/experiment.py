"""What the commands and `resad.fit` run: one model of all seen categories. No torch here."""

from collections.abc import Mapping
from dataclasses import replace

from adcommon.io.files import refuse_unwritable
from adcommon.training.jobs import FitGeneralist, Fitted, run_jobs
from adcommon.types.records import Split
from resad.published import PUBLISHED
from resad.recipes import FOLDER, RECIPES, Recipe
from resad.settings import TrainSettings


def run(
    recipe: Recipe,
    seen: Mapping[str, Split],
    unseen: Mapping[str, Split],
    settings: TrainSettings,
    *,
    name: str,
    multishot: bool = False,
) -> Fitted:
    """Train one model on the seen categories and evaluate it on the unseen ones.

    Args:
        unseen: none: nothing is tested, and the model waits for references.
        multishot: write the extension's folders and plots.
    """
    from resad.train import check_inputs, train

    checkpoints = settings.checkpoints(settings.folder(name))
    refuse_unwritable(checkpoints / "tables.csv")
    faithful = replace(RECIPES["paper"], setting=recipe.setting)
    fitted = run_jobs(
        name,
        recipe,
        settings,
        {"all": seen},
        train=lambda job, run, accelerator, stop: train(
            recipe, job, unseen, run, accelerator, settings, stop, multishot=multishot
        ),
        check=lambda: check_inputs(recipe, seen, unseen, settings),
        published=PUBLISHED.get(recipe.setting) if recipe == faithful else None,
    )
    if fitted.rows:
        print(f"the authors' files are in {checkpoints}")
    return fitted


def _fit(
    recipe: Recipe,
    data: Mapping[str, Split],
    targets: Mapping[str, Split],
    settings: TrainSettings,
    *,
    name: str,
) -> Fitted:
    trained, tested = (next((split.dataset for split in part.values()), FOLDER) for part in (data, targets))
    return run(replace(recipe, setting=f"{trained}_to_{tested}"), data, targets, settings, name=name)


fit = FitGeneralist("resad", TrainSettings, _fit)
