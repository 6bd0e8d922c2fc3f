import doctest

import pytest

import realnet.network.structure
from adcommon.errors import BadValue
from realnet.network.structure import (
    check_planes,
    check_sizes,
    check_widths,
    fitting_structure,
    layers_of,
    parse_structure,
)


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(realnet.network.structure).failed == 0


def test_a_block_reads_as_it_is_written() -> None:
    written = ["layer1:256+layer2:512@4", "layer3:512+layer4:256@16"]
    blocks = parse_structure(written)
    assert [str(block) for block in blocks] == written
    assert [(block.name, block.stride, block.channels) for block in blocks] == [
        ("block1", 4, 768),
        ("block2", 16, 768),
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("", "layer1", "layer1:256", "layer1:256@", "layer1:0@4", "layer0:1@4"),
        *("layer1:256@x", "layer1:256@0", "conv1:3@4", "layer1:2 layer2:3@4"),
    ],
)
def test_other_text_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadValue, match=r"expected LAYER:CHANNELS@STRIDE such as layer1:256@4"):
        parse_structure([text])


def test_no_blocks_and_a_layer_twice_are_refused() -> None:
    with pytest.raises(BadValue, match="structure is empty"):
        parse_structure([])
    with pytest.raises(BadValue, match="names a layer twice"):
        parse_structure(["layer1:8+layer1:8@4"])


def test_layers_come_fine_to_coarse_with_the_strides_of_their_backbone() -> None:
    blocks = parse_structure(["layer3:1+layer1:1@4", "layer10:1@16"])
    assert layers_of(blocks, "resnet50.a1_in1k") == {"layer1": 4, "layer3": 16, "layer10": 2048}
    assert layers_of(blocks[:1], "tf_efficientnet_lite0.in1k") == {"layer1": 2, "layer3": 8}


def test_images_must_be_halved_evenly_at_the_coarsest_block() -> None:
    blocks = parse_structure(["layer1:256@4", "layer4:256@32"])
    for side in (128, 512):
        check_sizes(blocks, side, levels=3)
    for side in (64, 192, 200):
        with pytest.raises(BadValue, match=f"image_size is {side}; expected a multiple of 128 pixels"):
            check_sizes(blocks, side, levels=3)
    check_sizes(blocks[:1], 192, levels=3)


def test_widths_must_fit_norms_and_attention_heads() -> None:
    check_widths(parse_structure(["layer1:64@4"]), 0.5, (1, 2, 4), (2, 4), 64)
    with pytest.raises(BadValue, match=r"48 channels.*24 wide at level 1; expected a multiple of 32"):
        check_widths(parse_structure(["layer1:48@4"]), 0.5, (1, 2, 4), (2, 4), 64)
    with pytest.raises(BadValue, match=r"32 wide at level 1; expected a multiple of 64, for its attention"):
        check_widths(parse_structure(["layer1:64@4"]), 0.5, (1, 2, 4), (1,), 64)
    # The middle attends in any case.
    with pytest.raises(BadValue, match=r"96 wide at level 2; expected a multiple of 64"):
        check_widths(parse_structure(["layer1:64@4"]), 0.5, (1, 3), (), 64)


def test_no_more_channels_are_kept_than_a_layer_has() -> None:
    blocks = parse_structure(["layer1:64@4"])
    check_planes(blocks, {"layer1": 64}, "resnet18.tv_in1k")
    with pytest.raises(BadValue, match="keeps 64 channels of layer1, which has 24 in 'efficientnet_b4'"):
        check_planes(blocks, {"layer1": 24}, "efficientnet_b4")


def test_a_network_wider_than_any_memory_is_refused() -> None:
    with pytest.raises(BadValue, match="expected at most 16384"):
        check_widths(parse_structure(["layer1:64@4"]), 0.5, (1, 2**20), (2,), 64)


def test_a_backbone_that_is_too_narrow_everywhere_is_refused() -> None:
    with pytest.raises(BadValue, match="too few channels"):
        fitting_structure({4: 8, 32: 8}, "x", lambda width: width % 32 == 0)
