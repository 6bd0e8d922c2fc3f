"""Training batches: features of seen categories, their masks, and references drawn for each batch.

The backbone is frozen and nothing is augmented, so every image's features are computed once and kept; the
queries and references of a step that are not yet known are encoded in one pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adcommon.data.loading import AnomalyDataset
from adcommon.data.order import batches_per_epoch, epoch_order
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, MaskMissing
from adcommon.io.cache import DiskCache
from adcommon.types.records import Record, Split
from resad.backbone import Backbone, feature_store, grids
from resad.network.residual import ReferenceRows, as_rows, match_classes, residual
from resad.optimiser import level_mask
from resad.recipes import Recipe

SCALE_IMAGES = 64
"""Normal images whose features give the residuals' scale."""
ALL_NORMAL = ("visa",)
"""Datasets whose training references the authors draw from all normal images, those of the test split too."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the steps of a training divide into epochs and stages."""

    first_stage_epochs: int
    epochs: int
    first_stage_steps: int
    """Steps of each epoch of stage 1."""
    second_stage_steps: int

    def length(self, epoch: int) -> int:
        """Steps of an epoch."""
        return self.second_stage_steps if self.second_stage(epoch) else self.first_stage_steps

    def second_stage(self, epoch: int) -> bool:
        """True once anomalous images take part."""
        return epoch >= self.first_stage_epochs

    def ends_epoch(self, done: int) -> bool:
        """True if so many steps, at least one, end with an epoch."""
        epoch, number = self.place(done - 1)
        return number == self.length(epoch) - 1

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return sum(self.length(epoch) for epoch in range(self.epochs))

    def place(self, step: int) -> tuple[int, int]:
        """Epoch of a step and its number within the epoch, all from 0."""
        for epoch in range(self.epochs):
            if step < self.length(epoch):
                return epoch, step
            step -= self.length(epoch)
        raise IndexError(f"step {step} lies {step} beyond the last epoch")


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """What one step needs."""

    residuals: list[Float[Tensor, "batch _ _ _"]]
    masks: list[Bool[Tensor, "batch _ _"]]
    categories: list[str]

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.categories)


class TrainingData:
    """The seen categories: which images each stage uses, their features, and where references come from."""

    def __init__(
        self,
        splits: Mapping[str, Split],
        backbone: Backbone,
        preprocess: Preprocess,
        recipe: Recipe,
        *,
        cache: DiskCache | None = None,
        memory_bytes: int,
        workers: int | None = 0,
    ) -> None:
        """List the images, and compute their features if all of them fit into memory.

        Args:
            memory_bytes: limit of the features that are kept; others are computed whenever they are needed.
            workers: processes that load images for that; 0 loads in this one.

        Raises:
            BadValue: too few images for a batch, or for references without replacement.
            MaskMissing: stage 2 without pixel truth.
        """
        self.recipe = recipe
        self.categories = sorted(splits)
        self.records: list[Record] = []
        self.first_stage: list[int] = []
        self.second_stage: list[int] = []
        self.pools: dict[str, list[int]] = {}
        for name, split in splits.items():
            start = len(self.records)
            self.records += [*split.train, *split.test]
            normal = list(range(start, start + len(split.train)))
            tested = list(range(start + len(split.train), len(self.records)))
            self.first_stage += normal
            self.second_stage += normal + tested
            extra = [place for place in tested if self.records[place].label == 0]
            self.pools[name] = normal + (extra if _all_normal(recipe) else [])
        self.preprocess = preprocess
        self.grids = grids(backbone, preprocess)
        self._check()
        images = AnomalyDataset(self.records, preprocess, cache)
        self.store = feature_store(backbone, images, memory_bytes, workers)
        self._masks: dict[int, Bool[np.ndarray, "size size"]] = {}

    def plan(self, world: int = 1) -> Plan:
        """The steps of both stages; `world` processes share each batch."""
        size = self.recipe.batch_size
        first, second = (
            batches_per_epoch(len(images), size, drop_last=True, world=world) if used else 0
            for images, used in (
                (self.first_stage, self.recipe.first_stage_epochs > 0),
                (self.second_stage, self._has_second_stage),
            )
        )
        return Plan(self.recipe.first_stage_epochs, self.recipe.epochs, first, second)

    def batch(
        self, epoch: int, number: int, device: torch.device, *, rank: int = 0, world: int = 1
    ) -> TrainingBatch:
        """One process's share of a batch, the same whenever it is asked for.

        Args:
            epoch: from 0; decides stage and order.
            number: of the batch within the epoch.
        """
        second = epoch >= self.recipe.first_stage_epochs
        images = self.second_stage if second else self.first_stage
        size = self.recipe.batch_size
        order = epoch_order(len(images), self.recipe.seed, epoch)[number * size : (number + 1) * size]
        whole = [images[place] for place in order]
        share = size // world
        queries = whole[rank * share : (rank + 1) * share]
        names = [self.records[place].category for place in queries]
        drawn = {name: self.draw(name, epoch, number, whole) for name in sorted(set(names))}
        wanted = queries + [place for places in drawn.values() for place in places]
        residuals = []
        for level in self.store.batch(wanted):
            level = level.to(memory_format=torch.channels_last)  # rows are views of it
            rest = level[len(queries) :].split([len(places) for places in drawn.values()])
            rows = {name: ReferenceRows.of(as_rows(maps)) for name, maps in zip(drawn, rest, strict=True)}
            maps = level[: len(queries)]
            residuals.append(residual(maps, match_classes(maps, names, rows), self.recipe.residual))
        masks = torch.from_numpy(np.stack([self._mask(place) for place in queries])).to(device)
        levels = [
            level_mask(masks, (maps.shape[2], maps.shape[3]), imagebind=self.recipe.is_imagebind)
            for maps in residuals
        ]
        return TrainingBatch(residuals, levels, names)

    def residual_scale(self) -> list[float]:
        """What each level's residuals are multiplied with: 1 unless the recipe scales them.

        Then it is one over the feature variance on normal images, or its root for residuals by subtraction.
        """
        if not self.recipe.scale_residuals:
            return [1.0] * len(self.grids.channels)
        variances = [float(level.var()) for level in self.store.batch(self.first_stage[:SCALE_IMAGES])]
        power = 1.0 if self.recipe.residual == "square" else 0.5
        return [variance**-power for variance in variances]

    def draw(self, category: str, epoch: int, number: int, queries: Sequence[int]) -> list[int]:
        """The reference images of a category for one batch; they depend on the seed and the batch alone."""
        recipe, pool = self.recipe, self.pools[category]
        generator = np.random.default_rng([recipe.seed, epoch, number, self.categories.index(category)])
        if recipe.exclude_query:
            others = [place for place in pool if place not in set(queries)]
            pool = others if len(others) >= recipe.train_ref_shot else pool
        chosen = generator.choice(len(pool), recipe.train_ref_shot, replace=recipe.reference_replacement)
        return [pool[place] for place in chosen]

    def _mask(self, place: int) -> Bool[np.ndarray, "size size"]:
        if place not in self._masks:
            record = self.records[place]
            self._masks[place] = self.preprocess.mask(record)
        return self._masks[place]

    @property
    def _has_second_stage(self) -> bool:
        return self.recipe.epochs > self.recipe.first_stage_epochs

    def _check(self) -> None:
        shots = self.recipe.train_ref_shot
        for name, pool in self.pools.items():
            if len(pool) < (1 if self.recipe.reference_replacement else shots):
                raise BadValue(
                    f"'{name}' has {len(pool)} normal training images and --train_ref_shot draws {shots} of "
                    f"them; use --train-ref-shot {len(pool)}, or --reference-replacement"
                )
        trained = [self.records[place] for place in self.second_stage]
        without = [record.image for record in trained if record.label == 1 and record.mask is None]
        if self._has_second_stage and without:
            raise MaskMissing(
                f"{len(without)} anomalous images to train on have no mask, such as {without[0]}: "
                "stage 2 learns from masks. Train on another dataset, or on normal images only with "
                f"--first_stage_epochs {self.recipe.epochs}"
            )


def _all_normal(recipe: Recipe) -> bool:
    """True if references are drawn from normal test images too."""
    if recipe.reference_pool == "auto":
        return recipe.train_dataset in ALL_NORMAL
    return recipe.reference_pool == "normal"
