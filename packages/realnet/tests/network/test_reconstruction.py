import pytest
import torch

from realnet.network.reconstruction import (
    DownBlock,
    Reconstruction,
    ResBlock,
    ResidualStack,
    SimpleReconstruction,
    UpBlock,
)


def network(**changes) -> Reconstruction:
    return Reconstruction(64, 32, **{"res_blocks": 1, **changes})


def test_the_first_reconstruction_is_zero_and_the_first_gradient_is_not() -> None:
    net, x = network(), torch.randn(2, 64, 8, 8)
    rebuilt = net(x)
    assert rebuilt.shape == x.shape
    assert not rebuilt.any()
    (rebuilt - x).square().mean().backward()
    assert net.out[2].weight.grad.any()


@pytest.mark.parametrize(
    ("changes", "levels"),
    [({}, 2), ({"attention_mult": ()}, 0), ({"channel_mult": (1, 2)}, 1), ({"res_blocks": 2}, 2)],
)
def test_attention_stands_at_its_factors_and_in_the_middle(changes: dict, levels: int) -> None:
    found = [name for name, _ in network(**changes).named_modules() if name.endswith("qkv")]
    blocks = changes.get("res_blocks", 1)
    assert len(found) == 1 + levels * (2 * blocks + 1)  # the way up has one block more


def test_every_part_changes_the_reconstruction() -> None:
    net = network()
    torch.nn.init.normal_(net.out[2].weight)
    x = torch.randn(1, 64, 8, 8)
    net(x).sum().backward()
    silent = [name for name, value in net.named_parameters() if value.grad is None]
    assert silent == []


def test_blocks_halve_and_double_and_keep_their_shortcut() -> None:
    x = torch.randn(1, 32, 8, 8)
    down, up, same = DownBlock(32), UpBlock(32), ResBlock(32, 32)
    for block in (down, same):
        for value in block.in_layers[2].parameters():
            torch.nn.init.zeros_(value)
    assert torch.allclose(down(x), torch.nn.functional.avg_pool2d(x, 2))
    assert torch.equal(same(x), x)
    assert up(x).shape == (1, 32, 16, 16)
    assert [name for name, _ in same.named_parameters() if "skip" in name] == []
    assert ResBlock(32, 64)(x).shape == (1, 64, 8, 8)


def test_the_simple_network_keeps_the_shape() -> None:
    x = torch.randn(2, 16, 8, 8)
    assert SimpleReconstruction(16)(x).shape == x.shape


def test_a_residual_stack_adds_to_what_it_gets() -> None:
    stack = ResidualStack(8, 4, layers=2)
    for value in stack.parameters():
        torch.nn.init.zeros_(value)
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(stack(x), x.relu())
