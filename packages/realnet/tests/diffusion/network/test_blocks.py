import torch
import torch.nn.functional as F

from realnet.diffusion.network.blocks import Encoder, ResBlock, Shape, time_embedding


def block(resample=None, channels: int = 64) -> ResBlock:
    made = ResBlock(32, channels, 16, 0.0, resample)
    torch.nn.init.normal_(made.out_layers[-1].weight, std=0.1)
    return made


def test_times_become_cosines_then_sines_of_falling_frequency() -> None:
    found = time_embedding(torch.tensor([0.0, 3.0]), 8)
    assert found[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    angles = torch.tensor([3 * 10_000 ** (-k / 4) for k in range(4)])
    torch.testing.assert_close(found[1], torch.cat([angles.cos(), angles.sin()]))


def test_a_new_block_passes_its_skip_alone() -> None:
    x, embedding = torch.randn(2, 32, 8, 8), torch.randn(2, 16)
    assert torch.equal(ResBlock(32, 32, 16, 0.0)(x, embedding), x)
    assert torch.equal(ResBlock(32, 32, 16, 0.0, "down")(x, embedding), F.avg_pool2d(x, 2))
    twice = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.equal(ResBlock(32, 32, 16, 0.0, "up")(x, embedding), twice)


def test_a_block_equals_the_paper_written_out() -> None:
    made, x, embedding = block("down"), torch.randn(2, 32, 8, 8), torch.randn(2, 16)
    hidden = made.in_layers[2](F.avg_pool2d(F.silu(made.in_layers[0](x)), 2))
    scale, shift = made.emb_layers[1](F.silu(embedding)).split(64, dim=1)
    hidden = made.out_layers[0](hidden) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
    expected = made.skip_connection(F.avg_pool2d(x, 2)) + made.out_layers[3](F.silu(hidden))
    torch.testing.assert_close(made(x, embedding), expected)


def encoder(dropout: float = 0.0) -> Encoder:
    torch.manual_seed(0)
    shape = Shape(width=32, depth=1, channel_mult=(1, 2), attention_at=(2,), head_width=32, dropout=dropout)
    made = Encoder(shape)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def test_activations_computed_twice_give_the_same_gradients() -> None:
    x, times = torch.randn(2, 3, 8, 8), torch.tensor([5.0, 700.0])
    gradients = []
    for enabled in (False, True):
        made = encoder(dropout=0.3)
        made.checkpoint_activations(enabled)
        torch.manual_seed(1)
        made.encode(x, made.embed(times))[0].square().sum().backward()
        gradients.append([parameter.grad for parameter in made.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=0, atol=0)


def test_half_a_channel_multiple_narrows_the_stem_but_not_the_embedding() -> None:
    made = Encoder(Shape(width=64, depth=1, channel_mult=(0.5, 1), attention_at=(), head_width=64))
    assert made.input_blocks[0][0].out_channels == 32
    assert made.time_embed[2].out_features == 256
