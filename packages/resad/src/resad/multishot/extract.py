"""Reference features of a dataset: encoded once, written per category, for any number of trainings."""

import json
import logging
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, DatasetNotFound, unknown_name
from adcommon.types.records import Split
from resad.backbone import Backbone, grids
from resad.compat.features import feature_facts, write
from resad.recipes import ALIASES, Recipe
from resad.references import encode, few_shot_images

logger = logging.getLogger(__name__)


def extract(
    images: dict[str, list[Path]],
    save_dir: Path,
    backbone: Backbone,
    preprocess: Preprocess,
    recipe: Recipe,
    *,
    batch_size: int,
) -> list[str]:
    """Encode and write each category's references into a sub-folder of its own.

    Returns:
        A line per category and level: the shape of its features as maps.
    """
    lines = []
    for category, paths in images.items():
        references = encode(backbone, paths, preprocess, batch_size=batch_size)
        write(save_dir / category, references, feature_facts(recipe, preprocess))
        for level, side in zip(references.levels, grids(backbone, preprocess).sides, strict=True):
            lines.append(f"{category}: ({len(paths)}, {level.rows.shape[1]}, {side}, {side})")
    return lines


def from_few_shot_folder(root: Path, categories: Sequence[str]) -> dict[str, list[Path]]:
    """Every image of `{root}/{category}/train/*`; without `categories`, of all that are there."""
    if not root.is_dir():
        raise DatasetNotFound(
            f"no folder {root}; expected few-shot images {root}/CATEGORY/train/good/*, or a dataset "
            "on this machine with --shots K or --published 4"
        )
    names = categories or sorted(path.name for path in root.iterdir() if (path / "train").is_dir())
    return {name: few_shot_images(root, name) for name in names}


def published(dataset: str, shots: int, splits: dict[str, Split]) -> dict[str, list[Path]]:
    """The authors' own references, found by name in a copy of the dataset.

    Raises:
        BadValue: none were published for this dataset and number, or for a category.
        DatasetNotFound: some of them are not in this copy.
    """
    table = json.loads(
        files("resad.compat").joinpath("published_references.json").read_text(encoding="utf-8")
    )
    if f"{shots}shot" not in table:
        raise BadValue(f"--published is {shots}; the authors published 4 and 8 references")
    short = {full: name for name, full in ALIASES.items()}.get(dataset, dataset)
    if short not in table[f"{shots}shot"]:
        known = ", ".join(ALIASES.get(name, name) for name in table[f"{shots}shot"])
        raise BadValue(f"no {shots} references of '{dataset}' were published; there are some of {known}")
    chosen = table[f"{shots}shot"][short]
    found: dict[str, list[Path]] = {}
    for category, split in splits.items():
        if category not in chosen:
            raise unknown_name(f"category of the published references of '{dataset}'", category, chosen)
        normal = {record.image.name: record.image for record in split.test if record.label == 0}
        trained = {record.image.name: record.image for record in split.train}
        places = normal | trained  # a name in both is a training image
        missing = [name for name in chosen[category] if name not in places]
        if missing:
            raise DatasetNotFound(
                f"{dataset}, {category}: the published references {', '.join(missing)} are not there"
            )
        tested = [name for name in chosen[category] if name not in trained]
        if tested:
            logger.warning(
                "%s: the published references %s are test images here; evaluate with --exclude-refs",
                *(category, ", ".join(tested)),
            )
        found[category] = [places[name] for name in chosen[category]]
    return found
