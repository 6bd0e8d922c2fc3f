import pytest
import torch

from adcommon.models.efficientnet import entry_names, from_efficientnet_pytorch, to_efficientnet_pytorch


def test_efficientnets_with_squeeze_layers_get_timms_names():
    names = entry_names("tf_efficientnet_b4")
    there = {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.bias": "bn1.bias",
        "_blocks.1._depthwise_conv.weight": "blocks.0.1.conv_dw.weight",
        "_blocks.1._se_reduce.bias": "blocks.0.1.se.conv_reduce.bias",
        "_blocks.1._project_conv.weight": "blocks.0.1.conv_pw.weight",
        "_blocks.2._expand_conv.weight": "blocks.1.0.conv_pw.weight",
        "_blocks.31._expand_conv.weight": "blocks.6.1.conv_pw.weight",
        "_blocks.31._se_expand.weight": "blocks.6.1.se.conv_expand.weight",
        "_blocks.31._bn2.running_var": "blocks.6.1.bn3.running_var",
        "_conv_head.weight": "conv_head.weight",
        "_bn1.weight": "bn2.weight",
        "_fc.bias": "classifier.bias",
    }
    state = {name: torch.tensor(float(number)) for number, name in enumerate(there)}
    renamed = from_efficientnet_pytorch(state, "tf_efficientnet_b4.aa_in1k")
    assert renamed == {there[name]: tensor for name, tensor in state.items()}
    assert renamed.keys() <= set(names)


@pytest.mark.parametrize(
    "tag", ["tf_efficientnet_b0.aa_in1k", "tf_efficientnet_b4.aa_in1k", "tf_efficientnet_lite0.in1k"]
)
def test_the_way_back_and_forth_loses_no_entry(tag):
    state = {
        name: torch.tensor(float(number)) for number, name in enumerate(entry_names(tag.partition(".")[0]))
    }
    theirs = to_efficientnet_pytorch(state, tag)
    assert len(theirs) == len(state)
    assert all(name.startswith("_") for name in theirs)
    assert from_efficientnet_pytorch(theirs, tag) == state


def test_other_networks_keep_their_names():
    state = {"layer1.0.conv1.weight": torch.zeros(1)}
    assert from_efficientnet_pytorch(state, "resnet18.tv_in1k") == state
