"""Batches to train on: half normal, half anomalous queries, each with its references, as frozen features."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.errors import BadValue, EmptySplit
from adcommon.models.feature_store import FeatureStore
from adcommon.types.records import Record
from inctrl.network.features import Features, as_features


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """Queries and their references."""

    query: Features
    references: Features
    """Of shots x batch images, shot-major."""
    labels: Float[Tensor, " batch"]
    """0 normal, 1 anomalous."""
    categories: list[str]


def balanced_indices(
    labels: Sequence[int], batch_size: int, *, seed: int, start: int = 0
) -> Iterator[list[int]]:
    """Batch after batch, without end: first B // 2 normal images, then the rest anomalous.

    Each class is passed through in orders of its own, drawn anew when it is exhausted, from one generator.

    Args:
        start: batches to pass over.

    Raises:
        BadValue: a batch of fewer than two images, which batch norm cannot train on.
        EmptySplit: no normal or no anomalous images.
    """
    if batch_size < 2:
        raise BadValue(f"batch_size is {batch_size}; expected at least 2, one image of each kind")
    classes = [[index for index, label in enumerate(labels) if label == kind] for kind in (0, 1)]
    for images, kind in zip(classes, ("normal", "anomalous"), strict=True):
        if not images:
            raise EmptySplit(f"no {kind} images to train on; InCTRL learns from both kinds")
    return itertools.islice(_balanced(classes, batch_size, seed), start, None)


def _balanced(classes: list[list[int]], batch_size: int, seed: int) -> Iterator[list[int]]:
    # Faithful: NumPy's old generator, which both classes share; its orders are those of the reference.
    draw = np.random.RandomState(seed)

    def endless(images: list[int]) -> Iterator[int]:
        while True:
            yield from (images[place] for place in draw.permutation(len(images)))

    normal, anomalous = map(endless, classes)
    half = batch_size // 2
    while True:
        yield [*itertools.islice(normal, half), *itertools.islice(anomalous, batch_size - half)]


class ReferenceDraw:
    """Draws each query's references among the normal images of its category."""

    def __init__(self, records: Sequence[Record], shots: int, seed: int, *, self_reference: bool) -> None:
        """Nothing is drawn yet.

        Args:
            records: all that is trained on.
            self_reference: a normal query may be its own reference.

        Raises:
            BadValue: a category has too few normal images.
        """
        self.records, self.shots, self.seed, self.self_reference = records, shots, seed, self_reference
        self.normal: dict[str, list[int]] = {}
        for index, record in enumerate(records):
            if record.label == 0:
                self.normal.setdefault(record.category, []).append(index)
        for category in {record.category for record in records}:
            found = len(self.normal.get(category, ()))
            if found < shots:
                raise BadValue(
                    f"category '{category}' has {found} normal images to train with, shots is {shots}; "
                    f"expected at least {shots} of them"
                )

    def __call__(self, step: int, queries: Sequence[int]) -> list[list[int]]:
        """References of each query of a step; the same for the same seed and step."""
        draw = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        chosen = []
        for query in queries:
            pool = self.normal[self.records[query].category]
            if not self.self_reference and len(pool) > self.shots:
                pool = [index for index in pool if index != query]
            chosen.append(draw.choice(pool, self.shots, replace=False).tolist())
        return chosen


def training_batches(
    store: FeatureStore,
    records: Sequence[Record],
    indices: Iterator[list[int]],
    references: ReferenceDraw,
    device: torch.device,
    *,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[TrainBatch]:
    """Frozen features of batch after batch, without end.

    Args:
        indices: of the queries, over all processes; already at `start`.
        start: steps that were done.
        rank: of this process, which takes every world-th query and so its share of both kinds.
    """
    for step, everyone in enumerate(indices, start=start):
        drawn = references(step, everyone)
        queries, chosen = everyone[rank::world], drawn[rank::world]
        shot_major = [own[shot] for shot in range(references.shots) for own in chosen]
        maps = store.batch([*queries, *shot_major])
        features = as_features(maps).to(device)
        yield TrainBatch(
            features[: len(queries)],
            features[len(queries) :],
            torch.tensor([float(records[index].label) for index in queries], device=device),
            [records[index].category for index in queries],
        )
