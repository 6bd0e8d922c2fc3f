"""From a recipe to its training items: which images anomalies are made of, and where they may lie."""

from collections.abc import Callable
from pathlib import Path

from adcommon.data.loading import AnomalyDataset
from adcommon.errors import DatasetNotFound
from realnet.recipes import Recipe
from realnet.synthesis.data import NORMAL, TrainingItems
from realnet.synthesis.foreground import ForegroundRule, named_rule, rule_for
from realnet.synthesis.sources import OwnTextures, Source, dtd_source, sdas_folder, sdas_source


def make_items(dataset: AnomalyDataset, recipe: Recipe, category: str, root: Path) -> TrainingItems:
    """The training items of a category.

    Args:
        dataset: its training images.
        recipe: kinds of anomalies, their shares and opacities.
        category: of which SDAS images and the foreground rule are looked up.
        root: where DTD is looked for, if the recipe does not say.

    Raises:
        DatasetNotFound: images that anomalies are to be made of are missing; says how to get them.
    """
    shares = recipe.shares()
    make: dict[str, Callable[[], Source]] = {
        "sdas": lambda: sdas_source(samples_of(recipe, category), dataset.cache),
        "dtd": lambda: dtd_source(recipe.dtd_dir or root, dataset.cache),
        "textures": lambda: OwnTextures(dataset),
    }
    return TrainingItems(
        dataset,
        sources={kind: make[kind]() for kind in shares if kind != NORMAL},
        shares=shares,
        opacity=recipe.opacity(),
        foreground=foreground_of(recipe, category),
        perlin_scale=recipe.perlin_scale,
        min_perlin_scale=recipe.min_perlin_scale,
        redraw_empty=recipe.redraw_empty,
        seed=recipe.seed,
    )


def samples_of(recipe: Recipe, category: str) -> Path:
    """The folder of a category's SDAS images.

    Raises:
        DatasetNotFound: the recipe wants such images and names no folder.
    """
    if recipe.sdas_dir is None:
        raise DatasetNotFound(
            f"the recipe blends diffusion samples (SDAS) into those of '{category}', and --sdas-dir names no "
            "folder of them.\n  Make them with realnet-train-diffusion and realnet-sample, then add "
            "--sdas-dir DIR; the authors' downloaded ones work too.\n  Or do without: --anomaly-source dtd "
            "(the texture dataset), --anomaly-source textures (nothing to download)"
        )
    return sdas_folder(recipe.sdas_dir, category)


def foreground_of(recipe: Recipe, category: str) -> ForegroundRule:
    """Where anomalies of a category may lie."""
    if recipe.foreground == "auto":
        return rule_for(recipe.dataset, category)
    return named_rule(recipe.foreground)
