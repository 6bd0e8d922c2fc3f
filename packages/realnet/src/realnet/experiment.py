"""What the command and `realnet.fit` run: one model per category. No torch here."""

from collections.abc import Mapping
from dataclasses import replace

from adcommon.results.paper import numbers_of
from adcommon.training.jobs import Fit, Fitted, run_jobs
from adcommon.training.settings import Settings
from adcommon.types.records import Split
from realnet.published import PUBLISHED
from realnet.recipes import RECIPES, Recipe


def run(recipe: Recipe, splits: Mapping[str, Split], settings: Settings, *, name: str) -> Fitted:
    """Train and evaluate one model per category; arguments as for `run_jobs`."""
    from realnet.model import fitted
    from realnet.train import check_inputs, train

    recipe = fitted(recipe, settings.given)
    return run_jobs(
        name,
        recipe,
        settings,
        {category: (category, split) for category, split in splits.items()},
        train=lambda job, run, accelerator, stop: train(recipe, *job, run, accelerator, settings, stop),
        check=lambda: check_inputs(recipe, splits, settings),
        published=numbers_of(replace(recipe, sdas_dir=None, dtd_dir=None), RECIPES, PUBLISHED),
    )


fit = Fit("realnet", run)
