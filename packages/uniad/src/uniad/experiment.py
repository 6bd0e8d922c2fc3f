"""What the commands and `uniad.fit` run: one model for all categories, or one for each. No torch here."""

from collections.abc import Mapping
from dataclasses import replace

from adcommon.results.paper import numbers_of
from adcommon.training.jobs import Fit, Fitted, run_jobs
from adcommon.training.settings import Settings
from adcommon.types.records import Split
from uniad.published import PUBLISHED
from uniad.recipes import RECIPES, Recipe


def run(recipe: Recipe, splits: Mapping[str, Split], settings: Settings, *, name: str) -> Fitted:
    """Train and evaluate one model for all categories, or one for each; tables are written after each.

    Args:
        name: of the run's folder, if the settings do not say.
    """
    from uniad.backbone import fitted
    from uniad.train import check_inputs, train

    recipe = fitted(recipe, settings.given)
    jobs = {"all": splits} if recipe.multiclass else {name: {name: split} for name, split in splits.items()}
    return run_jobs(
        name,
        recipe,
        settings,
        jobs,
        train=lambda job, run, accelerator, stop: train(recipe, job, run, accelerator, settings, stop),
        check=lambda: check_inputs(recipe, splits, settings),
        published=numbers_of(replace(recipe, accumulate=1), RECIPES, PUBLISHED),
    )


fit = Fit("uniad", run)
