"""Which layers of the backbone make which block, and how many channels of each are kept; no torch here.

A block is written LAYER:CHANNELS@STRIDE, with + between the layers that it joins:
"layer1:256+layer2:512@4" is 256 channels of layer1 beside 512 of layer2, both at 4 pixels per cell.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from adcommon.errors import BadValue
from adcommon.types.values import multiple_near

GROUPS = 32
"""Groups of every group norm; a number of channels has to be a multiple of it."""
_MOST = 2**14
"""Channels of a network at its widest."""
_LAYER = re.compile(r"(layer([1-9]\d*)):([1-9]\d*)")
_STRIDE_2_FIRST = ("efficientnet", "mobilenet", "mnasnet", "mixnet", "fbnet")
"""Kinds of networks whose first layer already has stride 2; that of all others has stride 4."""
_WIDEST = {4: 256, 8: 512, 16: 512, 32: 256}
"""Channels that the paper keeps of the layer of each stride."""


@dataclass(frozen=True, slots=True)
class Block:
    """Features that are rebuilt together."""

    name: str
    layers: tuple[tuple[str, int], ...]
    """Layers of the backbone and the number of channels kept of each, in order."""
    stride: int
    """Pixels per cell."""

    @property
    def channels(self) -> int:
        """Of all its layers together."""
        return sum(planes for _, planes in self.layers)

    def narrowed(self, channels: int) -> "Block":
        """The same with so many channels, fewer than it has: the last layers keep less.

        >>> str(parse_structure(["layer1:64+layer2:100@8"])[0].narrowed(96))
        'layer1:64+layer2:32@8'
        """
        kept, left = [], channels
        for layer, planes in self.layers:
            kept.append((layer, min(planes, left)))
            left -= kept[-1][1]
        return Block(self.name, tuple(entry for entry in kept if entry[1]), self.stride)

    def __str__(self) -> str:
        """As on a command line."""
        return "+".join(f"{layer}:{planes}" for layer, planes in self.layers) + f"@{self.stride}"


def parse_structure(structure: Sequence[str]) -> tuple[Block, ...]:
    """The blocks block1, block2 ... of a recipe's `structure`.

    >>> parse_structure(["layer1:256+layer2:512@4"])
    (Block(name='block1', layers=(('layer1', 256), ('layer2', 512)), stride=4),)
    """
    if not structure:
        raise BadValue("structure is empty; expected blocks such as layer1:256@4")
    return tuple(_block(f"block{number}", text) for number, text in enumerate(structure, start=1))


def layer_stride(layer: str, tag: str) -> int:
    """Pixels per cell of a layer, as the paper's code numbers the layers of a backbone.

    >>> layer_stride("layer1", "resnet18.tv_in1k"), layer_stride("layer1", "efficientnet_b4.ra2_in1k")
    (4, 2)
    """
    first = 2 if any(kind in tag for kind in _STRIDE_2_FIRST) else 4
    return first * 2 ** (int(layer.removeprefix("layer")) - 1)


def layers_of(blocks: Sequence[Block], tag: str) -> dict[str, int]:
    """The layers in use and their strides, fine to coarse."""
    names = {layer for block in blocks for layer, _ in block.layers}
    strides = {name: layer_stride(name, tag) for name in names}
    return dict(sorted(strides.items(), key=lambda entry: entry[1]))


def check_sizes(blocks: Sequence[Block], image_size: int, levels: int) -> None:
    """Refuse images that the coarsest block cannot halve as often as its network has levels."""
    side = max(block.stride for block in blocks) * 2 ** (levels - 1)
    if image_size < side or image_size % side:
        raise BadValue(
            f"image_size is {image_size}; expected a multiple of {side} pixels: the coarsest block has "
            f"{side // 2 ** (levels - 1)} pixels per cell, and its network halves that {levels - 1} times; "
            f"such as --image-size {multiple_near(image_size, side)}"
        )


def check_widths(
    blocks: Sequence[Block],
    ratio: float,
    channel_mult: Sequence[int],
    attention_mult: Sequence[int],
    head_width: int,
) -> None:
    """Refuse blocks whose network would have widths that its norms or attention heads do not divide."""
    sizes = (ratio, channel_mult, attention_mult, head_width)
    for block in blocks:
        if (reason := misfit(block.channels, *sizes)) is None:
            continue
        fewer = range(block.channels - block.channels % GROUPS, 0, -GROUPS)
        if (width := next((count for count in fewer if misfit(count, *sizes) is None), None)) is not None:
            fits = (one if one is not block else block.narrowed(width) for one in blocks)
            advice = f"such as --structure {' '.join(map(str, fits))}"
        else:
            advice = (
                "leave out --structure, --hidden-ratio, --channel-mult and --head-width: they fit together"
            )
        raise BadValue(f"{block.name} ({block}) has {block.channels} channels, so {reason}; {advice}")


def misfit(
    channels: int, ratio: float, channel_mult: Sequence[int], attention_mult: Sequence[int], head_width: int
) -> str | None:
    """Why the network of a block cannot have the widths that so many channels give it; None: it can."""
    attends = {len(channel_mult) - 1} | {
        level for level in range(len(channel_mult)) if 2**level in attention_mult
    }
    for level, factor in enumerate(channel_mult):
        width = factor * int(ratio * channels)
        if width > _MOST:
            return f"its network is {width} wide; expected at most {_MOST}"
        for name, unit in (("norms", GROUPS), ("attention", head_width)):
            if (name == "norms" or level in attends) and (width < unit or width % unit):
                return (
                    f"its network is {width} wide at level {level + 1}; expected a multiple of {unit}, for "
                    f"its {name}"
                )
    return None


def check_planes(blocks: Sequence[Block], channels: dict[str, int], tag: str) -> None:
    """Refuse to keep more channels than a layer has."""
    for block in blocks:
        for layer, planes in block.layers:
            if planes > channels[layer]:
                raise BadValue(
                    f"{block.name} keeps {planes} channels of {layer}, which has {channels[layer]} in '{tag}'"
                )


def fitting_structure(channels: Mapping[int, int], tag: str, suits: Callable[[int], bool]) -> tuple[str, ...]:
    """Blocks for a backbone, a layer each as in the paper; a layer that is too narrow joins the next one.

    >>> fitting_structure({4: 24, 8: 40, 16: 112}, "efficientnet_b0", lambda width: width % 64 == 0)
    ('layer2:24+layer3:40@8', 'layer4:64@16')

    Args:
        channels: of the backbone's maps, by stride.
        suits: says if the network of a block may have so many channels.

    Raises:
        BadValue: all layers together are too narrow.
    """
    names = {layer_stride(f"layer{number}", tag): f"layer{number}" for number in range(1, 6)}
    blocks: list[str] = []
    kept: list[tuple[str, int]] = []
    for stride, widest in _WIDEST.items():
        if stride not in channels:
            continue
        before, own = sum(planes for _, planes in kept), min(channels[stride], widest)
        found = next((width for width in range(before + own, before, -1) if suits(width)), None)
        kept.append((names[stride], own if found is None else found - before))
        if found is not None:
            blocks.append(str(Block("block", tuple(kept), stride)))
            kept = []
    if not blocks:
        raise BadValue(
            f"'{tag}' has too few channels for a block at strides 4 to 32; choose another --backbone, or a "
            "smaller --head-width"
        )
    return tuple(blocks)


def _block(name: str, text: str) -> Block:
    layers, at, stride = text.partition("@")
    found = [_LAYER.fullmatch(layer) for layer in layers.split("+")]
    if not at or not stride.isdecimal() or int(stride) < 1 or not all(found):
        raise BadValue(
            f"{name} is '{text}'; expected LAYER:CHANNELS@STRIDE such as layer1:256@4, or several layers "
            "such as layer1:256+layer2:512@4"
        )
    kept = tuple((match[1], int(match[3])) for match in found if match)
    if len({layer for layer, _ in kept}) < len(kept):
        raise BadValue(f"{name} is '{text}': it names a layer twice")
    return Block(name, kept, int(stride))
