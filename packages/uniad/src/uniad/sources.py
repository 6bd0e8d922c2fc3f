"""The images of a recipe: from the authors' lists, from CIFAR-10's splits, or from any dataset; no torch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adcommon.data import load_splits
from adcommon.data.lists.manifest import read_lines
from adcommon.errors import BadValue
from adcommon.training.settings import Settings
from adcommon.types.records import Split
from uniad.recipes import CIFAR10_SPLITS, Recipe


def on_own_images(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe, with the dataset `folder` if the command line names images of its own."""
    own = settings.data is not None or recipe.meta_train is not None
    return replace(recipe, dataset="folder") if own else recipe


def find_splits(recipe: Recipe, root: Path, categories: Sequence[str]) -> dict[str, Split]:
    """The images to train and test with, by category."""
    if recipe.meta_train is not None:
        splits = read_lines(recipe.meta_train, recipe.meta_test, recipe.image_dir)
        unknown = [name for name in categories if name not in splits]
        if unknown:
            raise BadValue(f"the lists have no category {', '.join(unknown)}; they have {', '.join(splits)}")
        return {name: split for name, split in splits.items() if not categories or name in categories}
    if recipe.dataset == "cifar10":
        categories = recipe.normals or categories or CIFAR10_SPLITS
    return load_splits(recipe.dataset, root, categories)
