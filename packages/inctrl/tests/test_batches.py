from pathlib import Path

import torch

from adcommon.models.feature_store import FeatureStore
from adcommon.types.records import Record
from inctrl.batches import TrainBatch, assign, training_batches
from inctrl.data import ReferenceDraw, balanced_indices
from inctrl.network.features import Features

LABELS = [0, 0, 0, 1, 0, 1, 0]


def records() -> list[Record]:
    return [Record(Path(str(n)), "ab"[n > 3], label) for n, label in enumerate(LABELS)]


def numbered(images: int, levels: int = 3, patches: int = 2) -> Features:
    """Every number says where it came from: 100 level + image."""
    made = [
        (100.0 * level + torch.arange(images)).view(images, 1, 1).expand(-1, patches, 1).clone()
        for level in range(levels)
    ]
    return Features(torch.arange(float(images))[:, None], made)


def batch_of(query: Features, references: Features) -> TrainBatch:
    return TrainBatch(query, references, torch.zeros(len(query.tokens)), None)


def test_corrected_gives_each_query_its_own_levels_and_references() -> None:
    batch, shots = 4, 2
    levels, references, tokens = assign(batch_of(numbered(batch), numbered(shots * batch)), "corrected")
    for image in range(batch):
        own = [image, batch + image]  # shot-major
        assert tokens[image, :, 0].tolist() == own
        for level in range(3):
            assert levels[level][image, 0, 0] == 100 * level + image
            assert references[level][image, :, 0].tolist() == [100 * level + n for n in own for _ in range(2)]


def test_reference_reads_a_reshape_where_a_permutation_was_meant() -> None:
    batch, shots, count = 4, 2, 3
    levels, references, tokens = assign(batch_of(numbered(batch), numbered(shots * batch)), "reference")
    for item in range(batch):
        for slot in range(count):
            n = count * item + slot
            assert levels[slot][item, 0, 0] == 100 * (n // batch) + n % batch
            for shot in range(shots):
                m = n * shots + shot
                expected = 100 * (m // (shots * batch)) + m % (shots * batch)
                assert references[slot][item, 2 * shot, 0] == expected
        assert tokens[item, :, 0].tolist() == [item * shots + shot for shot in range(shots)]


def test_for_one_query_the_orders_agree(random_features) -> None:
    batch = batch_of(random_features(1), random_features(3, seed=1))
    ours, theirs = assign(batch, "corrected"), assign(batch, "reference")
    for a, b in zip((*ours[0], *ours[1], ours[2]), (*theirs[0], *theirs[1], theirs[2]), strict=True):
        assert torch.equal(a, b)


class _Store(FeatureStore):
    """Features that are the image's number."""

    def __init__(self) -> None:
        """Nothing is kept."""

    def batch(self, indices):
        values = torch.tensor([float(index) for index in indices]).view(-1, 1, 1, 1)
        return [values, values.expand(-1, 2, 3, 3)]


def test_batches_hold_queries_and_shot_major_references_and_processes_share_them() -> None:
    own = records()
    draw = ReferenceDraw(own, 2, 0, self_reference=True)
    order = [next(balanced_indices(LABELS, 4, seed=3))]

    def text(categories: list[str]) -> torch.Tensor:
        return torch.tensor([float(name == "b") for name in categories]).view(-1, 1, 1).expand(-1, 2, 3)

    (batch,) = training_batches(_Store(), iter(order), draw, text, torch.device("cpu"))
    assert batch.query.tokens[:, 0].tolist() == order[0]
    chosen = draw(0, order[0])
    assert batch.references.tokens[:, 0].tolist() == [own[shot] for shot in range(2) for own in chosen]
    assert batch.labels.tolist() == [LABELS[index] for index in order[0]]
    assert batch.text[:, 0, 0].tolist() == [float(index > 3) for index in order[0]]
    assert batch.shots == 2
    shares = [
        next(training_batches(_Store(), iter(order), draw, text, torch.device("cpu"), rank=rank, world=2))
        for rank in range(2)
    ]
    assert sorted(n for share in shares for n in share.query.tokens[:, 0].tolist()) == sorted(order[0])
    assert all(share.labels.tolist() == [0, 1] for share in shares)
