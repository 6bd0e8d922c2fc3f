import json
from dataclasses import replace

import pytest

from adcommon.errors import BadValue, WrongCheckpoint
from uniad.compat.arch import BLOCKS, RESNETS, arch_of, name_of, network_values, strides_of, tag_of
from uniad.recipes import CIFAR10, MVTEC

CHANNELS = (24, 32, 56, 160)


@pytest.mark.parametrize(
    "recipe",
    [
        MVTEC,
        replace(MVTEC, position="sine", pre_norm=True, activation="gelu", mask_memory=False),
        replace(MVTEC, backbone="resnet50.tv_in1k", strides=(4, 8), image_size=256, jitter_scale=5.0),
        replace(MVTEC, backbone="tf_efficientnet_b6.aa_in1k", strides=(2, 16), neighbourhood=(3, 5)),
    ],
)
def test_a_network_survives_the_way_through_the_authors_form(recipe) -> None:
    arch = json.loads(json.dumps(arch_of(recipe, CHANNELS)))  # as a file would hold it
    assert replace(MVTEC, **network_values(arch, "here")) == recipe


def test_blocks_and_layers_name_the_same_strides() -> None:
    tag = MVTEC.backbone
    assert strides_of(tag, {"outblocks": [1, 5, 9, 21]}) == (2, 4, 8, 16)
    assert strides_of(tag, {"outlayers": [1, 2, 3, 4, 5]}) == CIFAR10.strides
    assert strides_of("resnet18.tv_in1k", {"outlayers": [1, 2, 3]}) == (4, 8, 16)
    assert strides_of("resnet18.tv_in1k", {"outstrides": [8]}) == (8,)


@pytest.mark.parametrize("name", [*BLOCKS, *RESNETS])
def test_every_backbone_of_the_authors_has_a_tag(name: str) -> None:
    assert name_of(tag_of(f"models.backbones.{name}")) == name


def test_what_cannot_be_a_uniad_is_refused() -> None:
    arch = arch_of(MVTEC, CHANNELS)
    with pytest.raises(WrongCheckpoint, match="describes no neck"):
        network_values([arch[0], arch[2]], "here")
    with pytest.raises(WrongCheckpoint, match="picture decoders"):
        network_values([*arch[:2], {**arch[2], "type": "models.reconstructions.VisDecoder"}], "here")
    arch[2]["kwargs"]["feature_size"] = [14, 16]
    with pytest.raises(WrongCheckpoint, match="14x16"):
        network_values(arch, "here")
    arch[2]["kwargs"]["hidden_dimm"] = 3
    with pytest.raises(WrongCheckpoint, match="hidden_dimm"):
        network_values(arch, "here")
    with pytest.raises(BadValue, match="efficientnet_b9"):
        tag_of("models.backbones.efficientnet_b9")
