"""What the command and `padim.fit` run: one model per category. No torch here."""

from collections.abc import Mapping

from adcommon.results.paper import numbers_of
from adcommon.training.jobs import Fit, Fitted, run_jobs
from adcommon.training.settings import Settings
from adcommon.types.records import Split
from baselines.padim.published import PUBLISHED
from baselines.padim.recipes import RECIPES, Recipe


def run(recipe: Recipe, splits: Mapping[str, Split], settings: Settings, *, name: str) -> Fitted:
    """Make and evaluate one model per category; tables are written after each.

    Args:
        name: of the run's folder, if the settings do not say.
    """
    from baselines.one_pass import check_inputs
    from baselines.padim.model import fitted
    from baselines.padim.train import train

    recipe = fitted(recipe, settings.given)
    return run_jobs(
        name,
        recipe,
        settings,
        splits,
        train=lambda split, run, accelerator, stop: train(recipe, split, run, accelerator, settings, stop),
        check=lambda: check_inputs(recipe, splits, settings),
        published=numbers_of(recipe, RECIPES, PUBLISHED),
    )


fit = Fit("padim", run)
