"""From a recipe to its training items: which images anomalies are made of, and where they may lie."""

from collections.abc import Callable
from pathlib import Path

from adcommon.data.loading import AnomalyDataset
from adcommon.data.sources.access import dtd_textures
from adcommon.errors import DatasetNotFound
from adcommon.io.images import list_images
from realnet.recipes import Recipe
from realnet.synthesis.data import NORMAL, TrainingItems
from realnet.synthesis.foreground import rule_for
from realnet.synthesis.perlin import PerlinScales
from realnet.synthesis.sources import ImageSource, OtherImages, OwnTextures, Source, sdas_source
from realnet.synthesis.texture_augment import augment


def make_items(dataset: AnomalyDataset, recipe: Recipe, category: str, root: Path) -> TrainingItems:
    """The training items of a category, from its training images.

    Args:
        root: where DTD is looked for, if the recipe does not say.

    Raises:
        DatasetNotFound: images that anomalies are to be made of are missing; says how to get them.
    """
    shares = recipe.shares()
    make: dict[str, Callable[[], Source]] = {
        "sdas": lambda: sdas_source(samples_of(recipe, category), dataset.cache),
        "dtd": lambda: ImageSource(dtd_textures(recipe.dtd_dir or root), change=augment, cache=dataset.cache),
        "textures": lambda: OwnTextures(dataset),
        "images": lambda: OtherImages(dataset),
    }
    return TrainingItems(
        dataset=dataset,
        sources={kind: make[kind]() for kind in shares if kind != NORMAL},
        shares=shares,
        opacity=recipe.opacity(),
        foreground=rule_for(recipe.dataset, category, recipe.foreground),
        scales=PerlinScales(recipe.perlin_scale, recipe.min_perlin_scale),
        redraw_empty=recipe.redraw_empty,
        least_change=recipe.least_change,
        seed=recipe.seed,
    )


def samples_of(recipe: Recipe, category: str) -> Path:
    """The folder of a category's SDAS images: as named, below it, or where {} stands for the category.

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
    if "{}" in str(recipe.sdas_dir):
        return Path(str(recipe.sdas_dir).replace("{}", category))
    own = recipe.sdas_dir / category
    return own if own.is_dir() or not list_images(recipe.sdas_dir) else recipe.sdas_dir
