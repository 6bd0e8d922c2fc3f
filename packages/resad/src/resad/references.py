"""The unseen categories: their test images, and the references they are compared with."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from adcommon.data.augment import turns
from adcommon.data.lists.fewshot import draw_references, refuse_too_few
from adcommon.data.loading import AnomalyDataset, cut, test_batches
from adcommon.data.preprocess import Preprocess
from adcommon.data.readable import refuse_references
from adcommon.errors import BadValue, DatasetNotFound, EmptySplit
from adcommon.io.cache import DiskCache
from adcommon.io.images import list_images
from adcommon.models.compute import FULL, Compute
from adcommon.models.feature_store import FeatureStore
from adcommon.types.records import Record, Split
from resad.backbone import Backbone, feature_store, grids
from resad.compat.features import feature_facts, read
from resad.multishot.alignment import read_choice
from resad.network.residual import References
from resad.recipes import Recipe

logger = logging.getLogger(__name__)


def encode(
    backbone: Backbone,
    images: Sequence[Path],
    preprocess: Preprocess,
    *,
    batch_size: int = 8,
    rotations: int = 1,
) -> References:
    """The references of these normal images, in this order, on the backbone's device.

    Args:
        rotations: how often each joins, turned by equal parts of a whole turn.

    Raises:
        BadValue: they are cut, and not all into as many tiles.
    """
    tiles = preprocess.tiles_of_all(images)
    records = cut([Record(image, "reference", 0) for image in images], preprocess)
    dataset = AnomalyDataset(records, preprocess)
    device = next(backbone.parameters()).device

    def all_turns(pixels: Tensor) -> list[Tensor]:
        """The maps of each image's turns, below one another."""
        turned = [backbone(one) for one in turns(pixels, rotations)]
        return [torch.cat(level, dim=2) for level in zip(*turned, strict=True)]

    maps = [all_turns(batch.images) for batch in test_batches(dataset, batch_size, device=device)]
    levels = [torch.cat(level) for level in zip(*maps, strict=True)]
    return References.of(levels, images, turns=rotations, tiles=tiles)


@dataclass(frozen=True, slots=True)
class Draw:
    """One choice of references for all test images of a category."""

    name: str
    """ "seed 0", or the folder they are from."""
    references: References
    """As many as the largest number of shots."""

    def of(self, image: int) -> References:
        """The references of a test image."""
        return self.references


@dataclass(frozen=True, slots=True)
class Aligned:
    """References of each test image's own."""

    pool: FeatureStore
    """Features of the normal training images."""
    choice: Int64[np.ndarray, "images shots"]
    """Their positions, best first, for each test image."""
    name: str = "aligned"

    def of(self, image: int) -> References:
        """The references of a test image."""
        return References.of(self.pool.batch(self.choice[image].tolist()))


@dataclass(frozen=True, slots=True)
class Target:
    """One unseen category."""

    category: str
    records: list[Record]
    """Test images."""
    store: FeatureStore
    """Their features, computed once for all numbers of shots, draws and epochs."""
    draws: Sequence[Draw] | Sequence[Aligned]

    @property
    def aligned(self) -> bool:
        """True if each test image has references of its own."""
        return isinstance(self.draws[0], Aligned)

    @property
    def names(self) -> list[Path]:
        """Full paths of the reference images of the first draw, where they are known."""
        first = self.draws[0]
        return [name.resolve() for name in first.references.names] if isinstance(first, Draw) else []


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSource:
    """Where the references of unseen categories come from; with neither folder they are drawn."""

    features: Path | None = None
    """Folder of feature files, one sub-folder per category."""
    images: Path | None = None
    """Folder of images: `{category}/train/{type}/*`."""
    aligned: Path | None = None
    """Folder of choices per test image, from `resad-align`."""


def make_targets(
    splits: Mapping[str, Split],
    backbone: Backbone,
    preprocess: Preprocess,
    recipe: Recipe,
    source: ReferenceSource,
    *,
    cache: DiskCache | None,
    memory_bytes: int,
    workers: int | None = 0,
    compute: Compute = FULL,
) -> Iterator[Target]:
    """All unseen categories in their order: their references, and their test images without these.

    Args:
        memory_bytes: limit of the features that are kept, shared by the categories.
        workers: processes that load images; 0 loads in this one.
        compute: how test images pass through the backbone; references do in float32.
    """
    shots, device = max(recipe.shots), next(backbone.parameters()).device

    def store(records: Sequence[Record]) -> FeatureStore:
        share = memory_bytes // len(splits) // 2
        return feature_store(backbone, AnomalyDataset(records, preprocess, cache), share, workers, compute)

    def drawn(category: str, split: Split) -> Iterator[Draw]:
        """A category's references, read, encoded or drawn, on the backbone's device."""
        if source.features is not None:
            expected, facts = grids(backbone, preprocess), feature_facts(recipe, preprocess)
            found = read(source.features, category, expected, facts)
            yield Draw(str(source.features), found.first(shots).to(device))
        elif source.images is not None:
            encoded = encode(
                backbone, few_shot_images(source.images, category), preprocess, rotations=recipe.rotations
            )
            yield Draw(str(source.images), encoded.first(shots))
        else:
            for seed in recipe.reference_seeds:
                images = draw_references(split.train, shots, seed=seed)
                yield Draw(f"seed {seed}", encode(backbone, images, preprocess, rotations=recipe.rotations))

    for category, split in splits.items():
        if source.aligned is not None:
            choice = read_choice(source.aligned, category, split, shots)[:, :shots]
            tested = store(split.test)
            yield Target(category, split.test, tested, [Aligned(store(split.train), choice)])
            continue
        draws = list(drawn(category, split))
        records = split.test
        if recipe.exclude_refs:
            records = without_references(records, [name for draw in draws for name in draw.references.names])
            if left_out := len(split.test) - len(records):
                logger.warning("%s: %d test images serve as references and are left out", category, left_out)
        files = {name for draw in draws for name in draw.references.names if name.is_file()}
        refuse_references(sorted(files), replace(split, test=records), preprocess, cache)
        yield Target(category, records, store(records), draws)


def refuse_missing(
    splits: Mapping[str, Split],
    backbone: Backbone,
    preprocess: Preprocess,
    recipe: Recipe,
    source: ReferenceSource,
) -> None:
    """Refuse categories without enough references, before any work."""
    shots = max(recipe.shots)
    if source.features is not None:
        expected, facts = grids(backbone, preprocess), feature_facts(recipe, preprocess)
        for category in splits:
            read(source.features, category, expected, facts).first(shots)
    elif source.images is not None:
        for category in splits:
            if (found := len(few_shot_images(source.images, category))) < shots:
                raise BadValue(
                    f"too few images of '{category}' in {source.images}: {found}, and shots is {shots}; use "
                    f"--shots {found}, or fewer"
                )
    else:
        refuse_too_few(splits.values(), shots)


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

    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    files = [image for image in references if image.is_file()]
    sizes, digests = {image.stat().st_size for image in files}, {digest(image) for image in files}
    return [
        record
        for record in records
        if record.label == 1
        or record.image.stat().st_size not in sizes
        or digest(record.image) not in digests
    ]
