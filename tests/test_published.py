"""The paper's numbers stand beside ours where its recipe is run, from Python too, and nowhere else."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from adcommon.results.rows import Published
from adcommon.training.jobs import Fitted
from adcommon.training.settings import Settings
from resad.experiment import run
from resad.published import PUBLISHED
from resad.recipes import RECIPES
from resad.settings import TrainSettings

METHODS = ("recontrast", "realnet", "uniad", "baselines.padim", "baselines.patchcore")
"""Each has a recipe of its paper that is named as its dataset is."""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What stands beside the rows of each run; nothing is trained."""
    known: list[Any] = []

    def run_jobs(*_: Any, published: Published | None, **__: Any) -> Fitted:
        known.append(published)
        return Fitted(Path(), [], {})

    for method in (*METHODS, "resad"):
        experiment = import_module(f"{method}.experiment")
        monkeypatch.setattr(experiment, "run_jobs", run_jobs)
    return known


@pytest.mark.parametrize("method", METHODS)
def test_a_papers_recipe_has_the_papers_numbers(method: str, shown: list[Any]) -> None:
    experiment, recipes, published = (
        import_module(f"{method}.{module}") for module in ("experiment", "recipes", "published")
    )
    recipe = recipes.RECIPES["mvtec"]
    for tried in (recipe, replace(recipe, seed=recipe.seed + 1), recipes.RECIPES["small"]):
        experiment.run(tried, {}, Settings(), name=method)
    assert shown == [published.PUBLISHED["mvtec"], None, None]


def test_resads_numbers_are_of_its_settings(shown: list[Any], tmp_path: Path) -> None:
    paper, btad = RECIPES["paper"], replace(RECIPES["paper"], setting="mvtec_to_btad")
    for tried in (paper, btad, replace(btad, seed=1), RECIPES["quickstart"]):
        run(tried, {}, {}, TrainSettings(out=tmp_path), name="resad")
    assert shown == [PUBLISHED["visa_to_mvtec"], PUBLISHED["mvtec_to_btad"], None, None]
