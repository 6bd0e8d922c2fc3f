"""The images of a recipe: from the authors' lists, or from any dataset; no torch here."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adcommon.data import load_splits
from adcommon.data.lists.manifest import of_categories, read_lines
from adcommon.data.sources.meaning import NOTHING, Meaning
from adcommon.training.settings import Settings
from adcommon.types.records import Split
from realnet.recipes import Recipe

ALL = "all"
"""What stands for every category of a dataset on a command line."""


def on_own_images(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe, with the dataset `folder` if the command line names images of its own."""
    own = settings.data is not None or recipe.meta_train is not None
    return replace(recipe, dataset="folder") if own else recipe


def find_splits(
    recipe: Recipe, root: Path, categories: Sequence[str], meaning: Meaning = NOTHING
) -> dict[str, Split]:
    """The images to train and test with, by category; all categories if none are named, or `all`."""
    wanted = () if ALL in categories else categories
    if recipe.meta_train is None:
        return load_splits(recipe.dataset, root, wanted, meaning=meaning)
    meaning.refuse_for("lists")
    listed = read_lines(recipe.meta_train, recipe.meta_test, recipe.image_dir)
    return of_categories(listed, wanted, recipe.meta_train)
