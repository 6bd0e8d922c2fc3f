import pytest
import torch

from adcommon.errors import BadValue
from uniad.pictures.decoder import BasicBlock, VisDecoder


def test_the_papers_decoder_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in VisDecoder(272).parameters()) == 24_053_632


@pytest.mark.parametrize("stride", [16, 32])
def test_features_become_images_of_their_own_size(stride: int) -> None:
    decoder = VisDecoder(8, stride).eval()
    assert decoder(torch.randn(1, 8, 2, 3)).shape == (1, 3, 2 * stride, 3 * stride)


def test_a_block_is_projected_only_where_size_or_channels_change() -> None:
    assert len(BasicBlock(8, 8).shortcut) == 0
    assert len(BasicBlock(8, 16).shortcut) == 3
    assert len(BasicBlock(8, 8, scale=2).shortcut) == 3


def test_a_block_without_weights_passes_its_positive_input_on() -> None:
    block, features = BasicBlock(4, 4).eval(), torch.randn(1, 4, 3, 3)
    torch.nn.init.zeros_(block.conv2.weight)
    assert torch.equal(block(features), features.relu())


def test_other_strides_are_refused() -> None:
    with pytest.raises(BadValue, match="16 or 32, not 8"):
        VisDecoder(8, 8)
