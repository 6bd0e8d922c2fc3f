import torch

from resad.network.constraint import Constraintors, Gate


def test_convolutional_output_is_never_negative_and_keeps_its_size() -> None:
    maps = [torch.randn(2, 4, 6, 5), torch.randn(2, 3, 3, 3)]
    out = Constraintors("conv", [4, 3])(maps)
    assert [level.shape for level in out] == [level.shape for level in maps]
    assert all((level >= 0).all() for level in out)


def test_the_gate_scales_channels_by_what_all_tokens_say() -> None:
    torch.manual_seed(0)
    gate, tokens = Gate(32), torch.randn(2, 5, 32)
    with torch.no_grad():
        gate.fc1.bias += 1  # both units of the bottleneck are at work
    factors = gate(tokens) / tokens
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors))
    assert factors.min() > 0
    assert factors.max() < 1
    moved = tokens.clone()
    moved[0, 3] *= 100
    assert not torch.allclose(gate(moved)[0, 0], gate(tokens)[0, 0])
    assert torch.equal(gate(moved)[1], gate(tokens)[1])


def test_tokens_come_back_to_their_place_on_the_grid() -> None:
    torch.manual_seed(0)
    layers = Constraintors("token", [16])
    maps = torch.randn(1, 16, 3, 4)
    out = layers([maps])[0]
    turned = layers([maps.transpose(2, 3).contiguous()])[0]
    torch.testing.assert_close(out.transpose(2, 3), turned)
    assert list(layers.state_dict())[:2] == ["l1_proj.fc1.weight", "l1_proj.fc1.bias"]
