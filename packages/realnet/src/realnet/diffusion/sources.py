"""The images that the diffusion model and its classifier learn, by category; no torch here."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from adcommon.data import DATASETS, load_splits
from adcommon.data.lists.manifest import of_categories, read_lines
from adcommon.data.sources.meaning import NOTHING, Meaning
from adcommon.errors import EmptySplit
from adcommon.training.settings import Settings
from adcommon.types.records import Record
from realnet.data import ALL
from realnet.diffusion.recipes import ClassifierRecipe, DiffusionRecipe, SampleRecipe

R = TypeVar("R", bound=DiffusionRecipe | ClassifierRecipe | SampleRecipe)


def on_own_images(recipe: R, settings: Settings) -> R:
    """The recipe, with the dataset `folder` if the command line names images of its own."""
    own = settings.data is not None or recipe.meta_train is not None
    return replace(recipe, dataset="folder") if own else recipe


def training_images(
    recipe: DiffusionRecipe | ClassifierRecipe | SampleRecipe,
    root: Path,
    categories: Sequence[str],
    meaning: Meaning = NOTHING,
) -> dict[str, list[Record]]:
    """The normal training images, by category.

    Args:
        recipe: names a dataset, or a list in the authors' form.
        root: where datasets are looked for.
        categories: those to take; none or `all`: every one. Their class numbers follow the dataset's order;
            those of a list, whose lines are in no order, follow the alphabet, as the authors' do.
    """
    wanted = () if ALL in categories else categories
    if recipe.meta_train is None:
        splits = load_splits(recipe.dataset, root, wanted, meaning=meaning)
    else:
        meaning.refuse_for("lists")
        listed = read_lines(recipe.meta_train, None, recipe.image_dir)
        splits = dict(sorted(of_categories(listed, wanted, recipe.meta_train).items()))
    images = {name: split.train for name, split in splits.items()}
    if empty := [name for name, records in images.items() if not records]:
        raise EmptySplit(f"no normal training images of {', '.join(empty)}")
    return images


def class_names(recipe: SampleRecipe, root: Path) -> tuple[str, ...]:
    """The categories that a checkpoint has learnt which does not name them: all of a dataset or a list."""
    known = DATASETS[recipe.dataset].categories if recipe.dataset in DATASETS else ()
    return tuple(known or training_images(recipe, root, ()))
