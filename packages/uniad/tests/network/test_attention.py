import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from adcommon.errors import BadValue
from uniad.network import dropout
from uniad.network.attention import Attention, barrier_of, neighbour_mask

sides = st.integers(1, 9)


@given(st.tuples(sides, sides), st.tuples(sides, sides))
def test_the_mask_is_what_two_loops_say_or_refused_where_a_row_would_be_empty(grid, near) -> None:
    height, width = grid
    expected = torch.zeros(height * width, height * width, dtype=torch.bool)
    for t in range(height * width):
        for u in range(height * width):
            rows, columns = abs(t // width - u // width), abs(t % width - u % width)
            expected[t, u] = rows <= near[0] // 2 and columns <= near[1] // 2
    if expected.all(dim=1).any():
        with pytest.raises(BadValue, match="nothing would be left"):
            neighbour_mask(grid, near)
    else:
        assert torch.equal(neighbour_mask(grid, near), expected)


def test_attention_equals_torchs_own_with_the_same_weights() -> None:
    ours, torchs = Attention(32, 4, 0.0), nn.MultiheadAttention(32, 4, batch_first=True)
    torchs.load_state_dict(ours.state_dict())
    query, key, value = (torch.randn(3, 20, 32) for _ in range(3))
    forbidden = neighbour_mask((4, 5), (3, 3))
    expected, _ = torchs(query, key, value, attn_mask=forbidden)
    torch.testing.assert_close(ours(query, key, value, barrier_of(forbidden)), expected, atol=2e-6, rtol=0)
    expected, _ = torchs(query, key, value)
    torch.testing.assert_close(ours(query, key, value, None), expected, atol=2e-6, rtol=0)


def test_one_query_for_all_images_gives_what_a_copy_for_each_gives() -> None:
    attention = Attention(16, 2, 0.0)
    query, key = torch.randn(1, 6, 16), torch.randn(4, 6, 16)
    torch.testing.assert_close(
        attention(query, key, key, None), attention(query.expand(4, -1, -1), key, key, None)
    )


def test_a_token_does_not_hear_of_its_forbidden_neighbours() -> None:
    attention = Attention(16, 2, 0.0)
    barrier = barrier_of(neighbour_mask((5, 5), (3, 3)))
    tokens = torch.randn(1, 25, 16)
    changed = tokens.clone()
    changed[0, 6] += 5  # a neighbour of token 0, and of token 12
    before, after = (attention(tokens, x, x, barrier)[0] for x in (tokens, changed))
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[12], after[12])
    assert not torch.allclose(before[24], after[24])


def test_dropout_acts_in_training_alone() -> None:
    attention = Attention(16, 2, 0.5)
    tokens = torch.randn(1, 9, 16)
    assert not torch.equal(*(attention(tokens, tokens, tokens, None) for _ in range(2)))
    attention.eval()
    assert torch.equal(*(attention(tokens, tokens, tokens, None) for _ in range(2)))


def test_thinned_attention_is_the_fused_one_where_nothing_is_dropped(monkeypatch) -> None:
    attention = Attention(16, 2, 0.5)
    query, key = torch.randn(1, 20, 16), torch.randn(3, 20, 16)
    barrier = barrier_of(neighbour_mask((4, 5), (3, 3)))
    everything = torch.ones(3, 2, 20, 20, dtype=torch.bool)
    monkeypatch.setattr(dropout, "keep_mask", lambda like, p: (everything, 1.0))
    thinned = attention(query, key, key, barrier)
    torch.testing.assert_close(thinned, attention.eval()(query, key, key, barrier), atol=2e-6, rtol=0)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(BadValue, match=r"30 numbers .* 4 heads"):
        Attention(30, 4, 0.0)
