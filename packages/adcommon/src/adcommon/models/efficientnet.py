"""EfficientNet-PyTorch's names of a network's entries, and timm's; two papers' checkpoints have the former.

EfficientNet-PyTorch counts blocks through all stages (`_blocks.6`), timm within each (`blocks.2.0`).
"""

import functools
from collections.abc import Mapping

import torch
from torch import Tensor

_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_SEPARABLE = _SQUEEZE | {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_EXPANDED = _SQUEEZE | {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


@functools.cache
def entry_names(architecture: str) -> tuple[str, ...]:
    """Names in the state dict of timm's whole network, classifier included, in order."""
    import timm

    with torch.device("meta"):
        return tuple(timm.create_model(architecture, pretrained=False).state_dict())


def from_efficientnet_pytorch(state: Mapping[str, Tensor], tag: str) -> dict[str, Tensor]:
    """A state dict with EfficientNet-PyTorch's names under timm's; one with other names is unchanged."""
    if "_conv_stem.weight" not in state:
        return dict(state)
    place_of = {str(number): place for number, place in enumerate(_places(tag))}
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("_blocks."):
            _, block, layer, entry = name.split(".", 3)
            layers = _EXPANDED if f"_blocks.{block}._expand_conv.weight" in state else _SEPARABLE
            renamed[f"blocks.{place_of.get(block, block)}.{layers.get(layer, layer)}.{entry}"] = tensor
        else:
            layer, _, entry = name.partition(".")
            renamed[f"{_OUTSIDE.get(layer, layer)}.{entry}"] = tensor
    return renamed


def to_efficientnet_pytorch(state: Mapping[str, Tensor], tag: str) -> dict[str, Tensor]:
    """The way back: timm's names of an EfficientNet, or of a part of one, as EfficientNet-PyTorch's."""
    number_of = {place: number for number, place in enumerate(_places(tag))}
    outside, separable, expanded = (
        {timms: theirs for theirs, timms in names.items()} for names in (_OUTSIDE, _SEPARABLE, _EXPANDED)
    )
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("blocks."):
            _, stage, index, rest = name.split(".", 3)
            layer, _, entry = rest.rpartition(".")
            layers = expanded if f"blocks.{stage}.{index}.conv_pwl.weight" in state else separable
            renamed[f"_blocks.{number_of[f'{stage}.{index}']}.{layers[layer]}.{entry}"] = tensor
        else:
            layer, _, entry = name.partition(".")
            renamed[f"{outside[layer]}.{entry}"] = tensor
    return renamed


def _places(tag: str) -> list[str]:
    """Stage and index of each block, in order: "0.0", "0.1", "1.0", ..."""
    names = (name for name in entry_names(tag.partition(".")[0]) if name.startswith("blocks."))
    return list(dict.fromkeys(".".join(name.split(".")[1:3]) for name in names))
