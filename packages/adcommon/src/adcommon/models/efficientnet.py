"""EfficientNet-PyTorch's names of a network's entries, and timm's; two papers' checkpoints have the former.

EfficientNet-PyTorch counts blocks through all stages (`_blocks.6`), timm within each (`blocks.2.0`).
"""

import functools
from collections.abc import Mapping

import torch
from torch import Tensor

_OUTSIDE = {
    "conv_stem": "_conv_stem",
    "bn1": "_bn0",
    "conv_head": "_conv_head",
    "bn2": "_bn1",
    "classifier": "_fc",
}
_SQUEEZE = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
_SEPARABLE = _SQUEEZE | {
    "conv_dw": "_depthwise_conv",
    "bn1": "_bn1",
    "conv_pw": "_project_conv",
    "bn2": "_bn2",
}
_EXPANDED = _SQUEEZE | {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}


@functools.cache
def entry_names(architecture: str) -> tuple[str, ...]:
    """Names in the state dict of timm's whole network, classifier included, in order."""
    import timm

    with torch.device("meta"):
        return tuple(timm.create_model(architecture, pretrained=False).state_dict())


def from_efficientnet_pytorch(state: Mapping[str, Tensor], tag: str) -> dict[str, Tensor]:
    """A state dict with EfficientNet-PyTorch's names under timm's; other names are unchanged."""
    if "_conv_stem.weight" not in state:
        return dict(state)
    timms = {theirs: name for name, theirs in _their_names(tag).items()}
    return {timms.get(name, name): tensor for name, tensor in state.items()}


def to_efficientnet_pytorch(state: Mapping[str, Tensor], tag: str) -> dict[str, Tensor]:
    """The way back: timm's names of an EfficientNet, or of a part of one, as EfficientNet-PyTorch's."""
    theirs = _their_names(tag)
    return {theirs[name]: tensor for name, tensor in state.items()}


def _their_names(tag: str) -> dict[str, str]:
    """EfficientNet-PyTorch's name of every entry, by timm's."""
    names = entry_names(tag.partition(".")[0])
    blocks = dict.fromkeys(tuple(name.split(".")[1:3]) for name in names if name.startswith("blocks."))
    number_of = {place: number for number, place in enumerate(blocks)}
    found = {}
    for name in names:
        layer, _, entry = name.rpartition(".")
        if name.startswith("blocks."):
            _, stage, index, layer = layer.split(".", 3)
            layers = _EXPANDED if f"blocks.{stage}.{index}.conv_pwl.weight" in names else _SEPARABLE
            found[name] = f"_blocks.{number_of[stage, index]}.{layers.get(layer, layer)}.{entry}"
        else:
            found[name] = f"{_OUTSIDE.get(layer, layer)}.{entry}"
    return found
