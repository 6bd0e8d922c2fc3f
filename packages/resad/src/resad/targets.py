"""The unseen categories: their test images, and the references they are compared with."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from adcommon.data.lists.fewshot import draw_references
from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.errors import DatasetNotFound, EmptySplit
from adcommon.io.cache import DiskCache
from adcommon.io.files import plain
from adcommon.io.images import list_images
from adcommon.models.feature_store import FeatureStore
from adcommon.types.records import Record, Split
from resad.backbone import Backbone, grids
from resad.features import feature_store
from resad.multishot.alignment import read_choice
from resad.recipes import Recipe
from resad.references import References, encode, read

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Draw:
    """One choice of references for all categories."""

    name: str
    """ "seed 0", or the folder they are from."""
    references: References
    """As many as the largest number of shots."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """References of each test image's own."""

    pool: FeatureStore
    """Features of the normal training images."""
    choice: Int64[np.ndarray, "images choices"]
    """Their positions, best first, for each test image."""


@dataclass(frozen=True, slots=True)
class Target:
    """One unseen category."""

    category: str
    records: list[Record]
    """Test images."""
    store: FeatureStore
    """Their features, computed once for all numbers of shots, draws and epochs."""
    draws: list[Draw]
    """Empty where each image has references of its own."""
    aligned: Aligned | None = None

    @property
    def draw_names(self) -> list[str]:
        """What the report calls the references."""
        return [draw.name for draw in self.draws] or ["aligned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSource:
    """Where the references of unseen categories come from; with neither folder they are drawn."""

    features: Path | None = None
    """Folder of feature files, one sub-folder per category."""
    images: Path | None = None
    """Folder of images: `{category}/train/{type}/*`."""
    aligned: Path | None = None
    """Folder of choices per test image, from `resad-align`."""


def make_target(
    category: str,
    split: Split,
    backbone: Backbone,
    preprocess: Preprocess,
    recipe: Recipe,
    source: ReferenceSource,
    *,
    cache: DiskCache | None,
    memory_bytes: int,
) -> Target:
    """Find or draw a category's references, encode them, and list its test images without them."""
    shots = max(recipe.shots)

    def store(records: Sequence[Record]) -> FeatureStore:
        return feature_store(backbone, AnomalyDataset(records, preprocess, cache), memory_bytes // 2)

    if source.aligned is not None:
        choice = read_choice(source.aligned, category, split, shots)
        return Target(category, split.test, store(split.test), [], Aligned(store(split.train), choice))
    if source.features is not None:
        facts = feature_facts(recipe, preprocess)
        found = read(source.features, category, grids(backbone, preprocess), facts)
        draws = [Draw(str(source.features), found.first(shots))]
    elif source.images is not None:
        images = few_shot_images(source.images, category)
        encoded = encode(backbone, images, preprocess)
        draws = [Draw(str(source.images), encoded.first(shots))]
    else:
        draws = [
            Draw(f"seed {seed}", encode(backbone, draw_references(split.train, shots, seed=seed), preprocess))
            for seed in recipe.reference_seeds
        ]
    records = split.test
    if recipe.exclude_refs:
        records = without_references(records, [name for draw in draws for name in draw.references.names])
        if left_out := len(split.test) - len(records):
            logger.warning("%s: %d test images serve as references and are left out", category, left_out)
    return Target(category, records, store(records), draws)


def make_targets(
    splits: Mapping[str, Split],
    backbone: Backbone,
    preprocess: Preprocess,
    recipe: Recipe,
    source: ReferenceSource,
    *,
    cache: DiskCache | None,
    memory_bytes: int,
) -> Iterator[Target]:
    """All unseen categories in their order; each may keep its share of `memory_bytes`."""
    for category, split in splits.items():
        yield make_target(
            category,
            split,
            backbone,
            preprocess,
            recipe,
            source,
            cache=cache,
            memory_bytes=memory_bytes // len(splits),
        )


def few_shot_images(root: Path, category: str) -> list[Path]:
    """The images of `{root}/{category}/train/{type}/`, types and files sorted.

    Raises:
        DatasetNotFound: no such folder.
        EmptySplit: no images in it.
    """
    folder = root / category / "train"
    if not folder.is_dir():
        raise DatasetNotFound(
            f"no folder {folder}; expected the few-shot images of '{category}' in {folder / 'good'}"
        )
    images = [image for kind in sorted(folder.iterdir()) for image in list_images(kind)]
    if not images:
        raise EmptySplit(f"no images in {folder}/*; expected the normal reference images of '{category}'")
    return images


def without_references(records: Sequence[Record], references: Sequence[Path]) -> list[Record]:
    """The records whose image is none of the references, copies under other names included."""
    files = {image.stat().st_size: set[str]() for image in references if image.is_file()}
    for image in references:
        if image.is_file():
            files[image.stat().st_size].add(_digest(image))
    return [
        record
        for record in records
        if record.label == 1
        or (size := record.image.stat().st_size) not in files
        or _digest(record.image) not in files[size]
    ]


def feature_facts(recipe: Recipe, preprocess: Preprocess) -> dict[str, Any]:
    """What reference features depend on, besides the images."""
    return {"backbone": recipe.backbone, "preprocess": plain(preprocess)}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
