from pathlib import Path

import pytest
import torch

from adcommon.errors import BadValue, EmptySplit
from adcommon.models.feature_store import FeatureStore
from adcommon.types.records import Record
from inctrl.data import ReferenceDraw, balanced_indices, training_batches

LABELS = [0, 0, 0, 1, 0, 1, 0]


def records() -> list[Record]:
    return [Record(Path(str(n)), "ab"[n > 3], label) for n, label in enumerate(LABELS)]


@pytest.mark.parametrize("size", [2, 4, 5])
def test_a_batch_is_half_normal_then_anomalous_and_every_pass_sees_all(size: int) -> None:
    batches = balanced_indices(LABELS, size, seed=3)
    seen: list[int] = []
    for _ in range(10):
        batch = next(batches)
        assert [LABELS[index] for index in batch] == [0] * (size // 2) + [1] * (size - size // 2)
        seen += [index for index in batch if LABELS[index] == 0]
    assert sorted(seen[:5]) == [0, 1, 2, 4, 6]
    assert sorted(seen[5:10]) == [0, 1, 2, 4, 6]


def test_the_order_can_be_taken_up_anywhere() -> None:
    whole = balanced_indices(LABELS, 4, seed=3)
    for _ in range(5):
        next(whole)
    later = balanced_indices(LABELS, 4, seed=3, start=5)
    assert [next(whole) for _ in range(4)] == [next(later) for _ in range(4)]


def test_one_kind_alone_or_a_batch_of_one_cannot_be_trained_on() -> None:
    with pytest.raises(EmptySplit, match="no anomalous images"):
        balanced_indices([0, 0], 4, seed=0)
    with pytest.raises(BadValue, match="batch_size is 1"):
        balanced_indices(LABELS, 1, seed=0)


def test_references_are_different_normal_images_of_the_querys_category() -> None:
    own = records()
    draw = ReferenceDraw(own, 2, 0, self_reference=True)
    for step in range(20):
        for query, chosen in zip(range(7), draw(step, range(7)), strict=True):
            assert len(set(chosen)) == 2
            assert all(own[n].label == 0 and own[n].category == own[query].category for n in chosen)
    assert draw(3, [0, 1]) == ReferenceDraw(own, 2, 0, self_reference=True)(3, [0, 1])
    assert any(draw(step, [0]) != draw(step + 1, [0]) for step in range(5))


def test_a_query_is_its_own_reference_only_where_that_is_allowed() -> None:
    own = records()
    for allowed in (True, False):
        draw = ReferenceDraw(own, 1, 0, self_reference=allowed)
        hit = any(draw(step, [0]) == [[0]] for step in range(50))
        assert hit == allowed


def test_too_few_normal_images_are_an_error_that_names_the_category() -> None:
    with pytest.raises(BadValue, match="category 'b' has 1 normal images to train with, shots is 2"):
        ReferenceDraw(records()[4:6], 2, 0, self_reference=True)


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
    (batch,) = training_batches(_Store(), own, iter(order), draw, torch.device("cpu"))
    assert batch.query.tokens[:, 0].tolist() == order[0]
    chosen = draw(0, order[0])
    assert batch.references.tokens[:, 0].tolist() == [own[shot] for shot in range(2) for own in chosen]
    assert batch.labels.tolist() == [LABELS[index] for index in order[0]]
    shares = [
        next(training_batches(_Store(), own, iter(order), draw, torch.device("cpu"), rank=rank, world=2))
        for rank in range(2)
    ]
    assert sorted(n for share in shares for n in share.query.tokens[:, 0].tolist()) == sorted(order[0])
    assert all(share.labels.tolist() == [0, 1] for share in shares)
