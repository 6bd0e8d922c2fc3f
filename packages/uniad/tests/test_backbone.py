from dataclasses import replace

import pytest
import torch
from torch import nn

from adcommon.errors import BadValue
from adcommon.models.backbones import create_trunk
from uniad.backbone import AlignedFeatures, align, fitted, pad_as_reference
from uniad.recipes import OWN

PADS = {  # of the strided depth-wise convolutions that differ, by stage, as the reference pads them
    "tf_efficientnet_b0": {},
    "tf_efficientnet_b1": {5: 2},
    "tf_efficientnet_b2": {2: 2, 3: 1, 5: 2},
    "tf_efficientnet_b3": {2: 2, 5: 2},
    "tf_efficientnet_b4": {2: 2},
    "tf_efficientnet_b5": {3: 1, 5: 2},
    "tf_efficientnet_b6": {5: 2},
}


@pytest.mark.parametrize("tag", PADS)
def test_padding_changes_where_the_named_resolution_makes_an_odd_side(tag: str) -> None:
    with torch.device("meta"):
        trunk = create_trunk(tag, None, strides=(2, 4, 8, 16, 32))
        pad_as_reference(trunk, tag)
    changed = {
        stage: blocks[0].conv_dw.padding[0]
        for stage, blocks in enumerate(trunk.blocks)
        if type(blocks[0].conv_dw) is nn.Conv2d and blocks[0].conv_dw.stride[0] == 2
    }
    assert changed == PADS[tag]


@pytest.mark.parametrize(
    ("backbone", "strides"),
    [("convnext_tiny.in12k_ft_in1k", (4, 8, 16)), ("tf_efficientnet_lite0.in1k", (2, 4, 8, 16))],
)
def test_strides_that_nobody_chose_are_those_of_the_backbone(backbone: str, strides: tuple[int, ...]) -> None:
    assert fitted(replace(OWN, backbone=backbone)).strides == strides
    chosen, named = (replace(OWN, backbone=backbone, strides=strides) for strides in ((2, 32), OWN.strides))
    assert fitted(chosen) is chosen
    assert fitted(named, ["strides"]) is named


def test_other_backbones_keep_their_padding() -> None:
    trunk = create_trunk("tf_efficientnet_lite0", None)
    before = [type(layer) for layer in trunk.modules()]
    pad_as_reference(trunk, "tf_efficientnet_lite0.in1k")
    assert [type(layer) for layer in trunk.modules()] == before


def test_alignment_reads_the_corners_of_the_map() -> None:
    level = torch.arange(25.0).view(1, 1, 5, 5)
    aligned = align([level, torch.zeros(1, 2, 2, 2)], (2, 3))
    assert aligned.shape == (1, 3, 2, 3)
    assert aligned[0, 0].tolist() == [[0, 2, 4], [20, 22, 24]]


def test_the_module_stays_frozen_and_in_eval_mode() -> None:
    features = AlignedFeatures("resnet18", None, strides=(4, 8)).train()
    assert not any(module.training for module in features.pyramid.modules())
    assert not any(parameter.requires_grad for parameter in features.parameters())
    (aligned,) = features(torch.randn(1, 3, 64, 64))
    assert aligned.shape == (1, 64 + 128, 4, 4)
    assert not aligned.requires_grad


def test_the_key_of_kept_features_tells_strides_and_grids_apart() -> None:
    kinds = [((4, 8), 16), ((4, 8), 8), ((8, 16), 16)]
    texts = {repr(AlignedFeatures("resnet18", None, strides=s, out_stride=o)) for s, o in kinds}
    assert len(texts) == 3


def test_sizes_that_make_no_whole_cells_are_refused() -> None:
    features = AlignedFeatures("resnet18", None, strides=(4, 32))
    with pytest.raises(BadValue, match=r"48x64 pixels .* multiples of 32"):
        features(torch.zeros(1, 3, 48, 64))


def test_the_layout_changes_rounding_only() -> None:
    images = torch.randn(2, 3, 64, 64)
    plain, last = (
        AlignedFeatures("resnet18", "random", strides=(4, 8, 16), channels_last=on) for on in (False, True)
    )
    assert last.pyramid.trunk.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last(images)[0], plain(images)[0], rtol=1e-4, atol=1e-4)
