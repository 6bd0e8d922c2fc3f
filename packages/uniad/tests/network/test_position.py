import pytest
import torch

from adcommon.errors import BadValue
from uniad.network.position import LearnedPosition, SinePosition, make_position


def test_tokens_of_one_column_share_its_part_and_tokens_of_one_row_theirs() -> None:
    table = LearnedPosition((3, 4), 8)().unflatten(0, (3, 4))
    columns, rows = table[..., :4], table[..., 4:]
    assert torch.equal(columns, columns[:1].expand_as(columns))
    assert torch.equal(rows, rows[:, :1].expand_as(rows))
    assert len(columns[0].unique(dim=0)) == 4
    assert len(rows[:, 0].unique(dim=0)) == 3


def test_sines_put_the_row_first_and_are_not_trained_or_stored() -> None:
    position = SinePosition((3, 4), 8)
    table = position().unflatten(0, (3, 4))
    assert torch.equal(table[..., :4], table[:, :1, :4].expand(3, 4, 4))
    assert torch.equal(table[..., 4:], table[:1, :, 4:].expand(3, 4, 4))
    assert list(position.parameters()) == []
    assert position.state_dict() == {}


def test_every_place_has_an_embedding_of_its_own() -> None:
    for kind in ("learned", "sine"):
        assert len(make_position(kind, (5, 6), 16)().unique(dim=0)) == 30


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(BadValue, match="learned or sine"):
        make_position("relative", (2, 2), 8)
