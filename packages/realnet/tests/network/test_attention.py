import torch

from realnet.network.attention import Attention, GroupNorm


def attention(channels: int = 64, head_width: int = 32) -> Attention:
    torch.manual_seed(0)
    block = Attention(channels, head_width)
    torch.nn.init.normal_(block.proj_out.weight)
    return block


def test_a_new_block_changes_nothing() -> None:
    x = torch.randn(2, 64, 3, 5)
    assert torch.equal(Attention(64, 32)(x), x)


def test_it_equals_softmax_attention_written_out_head_by_head() -> None:
    block, x = attention().double(), torch.randn(2, 64, 3, 5, dtype=torch.float64)
    flat = x.flatten(2)
    qkv = block.qkv(block.norm(flat))
    seen = []
    for head in range(2):
        query, key, value = qkv[:, head * 96 : (head + 1) * 96].split(32, dim=1)
        weights = torch.softmax(torch.einsum("bct,bcs->bts", query, key) / 32**0.5, dim=-1)
        seen.append(torch.einsum("bts,bcs->bct", weights, value))
    expected = (flat + block.proj_out(torch.cat(seen, dim=1))).reshape(x.shape)
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


def test_group_norm_keeps_the_type_and_computes_in_float32() -> None:
    norm, x = GroupNorm(64), torch.randn(2, 64, 4, 4).bfloat16()
    assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(norm(x), norm(x.float()).bfloat16(), rtol=0, atol=0)
    assert norm.double()(x.double()).dtype == torch.float64
