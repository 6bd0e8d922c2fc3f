"""What the commands and `recontrast.fit` run: one model per category, or one for all. No torch here."""

from collections.abc import Mapping

from adcommon.results.paper import numbers_of
from adcommon.training.jobs import Fit, Fitted, run_jobs
from adcommon.training.settings import Settings
from adcommon.types.records import Split
from recontrast.published import PUBLISHED
from recontrast.recipes import RECIPES, Recipe


def run(recipe: Recipe, splits: Mapping[str, Split], settings: Settings, *, name: str) -> Fitted:
    """Train and evaluate one model per category, or one for all; tables are written after each.

    Args:
        name: of the run's folder, if the settings do not say.
    """
    from recontrast.train import check_inputs, train

    jobs = {"all": splits} if recipe.multiclass else {name: {name: split} for name, split in splits.items()}
    return run_jobs(
        name,
        recipe,
        settings,
        jobs,
        train=lambda job, run, accelerator, stop: train(recipe, job, run, accelerator, settings, stop),
        check=lambda: check_inputs(recipe, splits, settings),
        published=numbers_of(recipe, RECIPES, PUBLISHED),
    )


fit = Fit("recontrast", run)
