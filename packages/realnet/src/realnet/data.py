"""The images of a recipe: from the authors' lists, or from any dataset; no torch here."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adcommon.data import load_splits
from adcommon.data.lists.manifest import read_lines
from adcommon.errors import unknown_name
from adcommon.training.settings import Settings
from adcommon.types.records import Split
from realnet.recipes import Recipe


def on_own_images(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe, with the dataset `folder` if the command line names images of its own."""
    return replace(recipe, dataset="folder") if settings.data is not None else recipe


def find_splits(recipe: Recipe, root: Path, categories: Sequence[str]) -> dict[str, Split]:
    """The images to train and test with, by category; all categories if none are named."""
    if recipe.meta_train is None:
        return load_splits(recipe.dataset, root, categories)
    listed = read_lines(recipe.meta_train, recipe.meta_test, recipe.image_dir)
    for name in categories:
        if name not in listed:
            raise unknown_name(f"category in {recipe.meta_train}", name, listed)
    return {name: listed[name] for name in categories or listed}
