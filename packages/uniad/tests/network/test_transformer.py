import pytest
import torch

from adcommon.errors import BadValue
from uniad.network.transformer import Transformer, activation


def make(*, pre_norm: bool = False, dropout: float = 0.0) -> Transformer:
    return Transformer(12, 16, 2, 2, 3, 32, dropout, "relu", pre_norm=pre_norm)


def run(network: Transformer, tokens: torch.Tensor) -> torch.Tensor:
    return network(tokens, torch.zeros(12, 16), (None, None, None))


def test_layers_start_with_the_same_queries_and_packed_projections() -> None:
    layers = make().decoder.layers
    for name in ("learned_embed.weight", "self_attn.in_proj_weight", "multihead_attn.in_proj_weight"):
        first, *rest = (layer.get_parameter(name) for layer in layers)
        assert all(torch.equal(first, other) for other in rest)
        assert all(first is not other for other in rest)


def test_only_the_pre_norm_kind_ends_the_encoder_with_a_norm() -> None:
    assert "encoder.norm.weight" not in make().state_dict()
    assert "encoder.norm.weight" in make(pre_norm=True).state_dict()


@pytest.mark.parametrize("pre_norm", [False, True])
def test_the_output_has_no_path_from_the_input_but_attention(pre_norm: bool) -> None:
    network = make(pre_norm=pre_norm).eval()
    for layer in network.decoder.layers:  # attention that adds nothing
        for attention in (layer.self_attn, layer.multihead_attn):
            torch.nn.init.zeros_(attention.out_proj.weight)
    one, other = torch.randn(2, 1, 12, 16)
    assert torch.equal(run(network, one), run(network, other))


@pytest.mark.parametrize("pre_norm", [False, True])
def test_images_of_a_batch_do_not_hear_of_each_other(pre_norm: bool) -> None:
    network, tokens = make(pre_norm=pre_norm).eval(), torch.randn(3, 12, 16)
    torch.testing.assert_close(run(network, tokens)[1:2], run(network, tokens[1:2]))


def test_unknown_activations_are_refused() -> None:
    with pytest.raises(BadValue, match="relu or gelu"):
        activation("glu")
