"""Batches to train on: queries, half of them normal, each with its references, as frozen features."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.models.feature_store import FeatureStore
from inctrl.data import ReferenceDraw
from inctrl.network.features import Features, as_features

Order = Literal["reference", "corrected"]
"""Which features of a batch belong to which query: as the reference mixes them, or as they should."""


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """Queries and their references."""

    query: Features
    references: Features
    """Of shots x batch images, shot-major: the first `batch` are each query's first reference."""
    labels: Float[Tensor, " batch"]
    """0 normal, 1 anomalous."""
    text: Float[Tensor, "batch 2 embed"] | None
    """T of each query's category; None: there is no text tower."""

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.labels)

    @property
    def shots(self) -> int:
        """References of each query."""
        return len(self.references.tokens) // len(self.labels)


def training_batches(
    store: FeatureStore,
    indices: Iterator[list[int]],
    references: ReferenceDraw,
    text: Callable[[list[str]], Float[Tensor, "batch 2 embed"] | None],
    device: torch.device,
    *,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[TrainBatch]:
    """Batch after batch, without end.

    Args:
        indices: of the queries, over all processes; already at `start`.
        start: steps that were done.
        rank: of this process, which takes every world-th query and so its share of both kinds.
    """
    for step, everyone in enumerate(indices, start=start):
        drawn = references(step, everyone)
        queries, chosen = everyone[rank::world], drawn[rank::world]
        records = [references.records[index] for index in queries]
        shot_major = [own[shot] for shot in range(references.shots) for own in chosen]
        features = as_features(store.batch([*queries, *shot_major]))
        yield TrainBatch(
            features[: len(queries)],
            features[len(queries) :],
            torch.tensor([float(record.label) for record in records], device=device),
            text([record.category for record in records]),
        )


def assign(
    batch: TrainBatch, order: Order
) -> tuple[
    list[Float[Tensor, "batch patches _channels"]],
    list[Float[Tensor, "batch reference_patches _channels"]],
    Float[Tensor, "batch shots embed"],
]:
    """Query patches and reference patches by level, and reference tokens, for each query of a batch.

    The reference lays the levels of a batch out as (level, image) and then *reshapes* them to (image, level)
    instead of permuting; so with more than one query each gets patches, levels and references of others. The
    query's own token is not affected. The published checkpoints were trained that way.

    Args:
        order: "reference" needs levels of one width.
    """
    count, shots, references = len(batch.labels), batch.shots, batch.references
    if order == "corrected":
        levels = [
            level.unflatten(0, (shots, count)).transpose(0, 1).flatten(1, 2) for level in references.levels
        ]
        return batch.query.levels, levels, references.tokens.unflatten(0, (shots, count)).transpose(0, 1)
    # Faithful: reshaped where it should be permuted.
    ours, theirs = torch.stack(batch.query.levels), torch.stack(references.levels)
    depth, _, patches, channels = ours.shape
    mixed = ours.reshape(count, depth, patches, channels)
    mixed_references = theirs.reshape(count, depth, shots * patches, channels)
    tokens = references.tokens.reshape(count, shots, -1)
    return list(mixed.unbind(1)), list(mixed_references.unbind(1)), tokens
