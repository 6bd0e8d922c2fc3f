"""How the authors describe a network, in checkpoints ("arch") and configuration files; no torch here.

Both are nested lists and mappings; a value is known by its own name, wherever it lies.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adcommon.errors import BadValue

TAGS = {
    "wide_resnet50_2": "wide_resnet50_2.racm_in1k",
    "resnet50": "resnet50.a1_in1k",
    "resnet34": "resnet34.bt_in1k",
    "resnet18": "resnet18.tv_in1k",
    "efficientnet_b4": "efficientnet_b4.ra2_in1k",
}
"""The authors' backbones and the timm tags of the weights that their version of timm loads."""

NETWORK = {
    "init_bsn": "afs_batches",
    "hide_channels_ratio": "hidden_ratio",
    "num_res_blocks": "res_blocks",
    "channel_mult": "channel_mult",
    "attention_mult": "attention_mult",
    "num_head_channels": "head_width",
    "num_residual_layers": "rrs_layers",
    "stop_grad": "stop_grad",
}
"""Values of the network, and the recipe's fields."""
NETWORK_READ_HERE = ("structure", "modes", "mode_numbers")


def network_values(content: object, where: str) -> dict[str, Any]:
    """The recipe fields that a description sets; what it does not say is left out.

    Raises:
        BadValue: a value has another form than the authors'.
    """
    values: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for path, value in leaves(content):
        if path[-1] in NETWORK:
            values[NETWORK[path[-1]]] = tuple(value) if isinstance(value, list) else value
        elif path[-1] in NETWORK_READ_HERE:
            found[path[-1]] = value
        elif (tag := tag_of(value)) is not None:
            values["backbone"] = tag
    if "structure" in found:
        values["structure"] = tuple(_block(block, where) for block in found["structure"])
    if "modes" in found or "mode_numbers" in found:
        modes, numbers = found.get("modes", ()), found.get("mode_numbers", ())
        if len(modes) != len(numbers):
            raise BadValue(f"{where}: modes is {modes}, mode_numbers {numbers}; expected one number per mode")
        values["rrs_modes"] = tuple(f"{mode}:{number}" for mode, number in zip(modes, numbers, strict=True))
    return values


def tag_of(value: object) -> str | None:
    """The timm tag of the authors' backbone that a value names, alone or as a path of their modules."""
    return TAGS.get(value.rpartition(".")[2]) if isinstance(value, str) else None


def leaves(content: object, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value under its path of names and numbers; lists of plain values, and structures, stay whole."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            path = (*above, str(name))
            if name == "structure" or not isinstance(value, Mapping | list | tuple):
                yield path, value
            else:
                yield from leaves(value, path)
    elif isinstance(content, Sequence) and any(isinstance(value, Mapping) for value in content):
        for number, value in enumerate(content):
            yield from leaves(value, (*above, str(number)))
    elif above:
        yield above, content


def _block(described: object, where: str) -> str:
    """A block of a `structure` as in our recipes."""
    try:
        layers = "+".join(f"{layer['idx']}:{layer['planes']}" for layer in described["layers"])  # type: ignore[index]
        return f"{layers}@{described['stride']}"  # type: ignore[index]
    except (TypeError, KeyError) as error:
        raise BadValue(
            f"{where}: cannot read the block {described!r} of structure ({error}); expected stride and "
            "layers, each with idx and planes"
        ) from error
