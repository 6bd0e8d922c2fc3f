"""How the authors describe a network, in checkpoints ("arch") and configuration files ("net"); no torch.

A list of three parts, each with name, type and options: backbone, neck, reconstruction.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from adcommon.errors import BadValue, WrongCheckpoint
from uniad.recipes import MVTEC, Recipe

PARTS = ("backbone", "neck", "reconstruction")
BLOCKS = {
    "efficientnet_b0": (0, 2, 4, 10, 15),
    "efficientnet_b1": (1, 4, 7, 15, 22),
    "efficientnet_b2": (1, 4, 7, 15, 22),
    "efficientnet_b3": (1, 4, 7, 17, 25),
    "efficientnet_b4": (1, 5, 9, 21, 31),
    "efficientnet_b5": (2, 7, 12, 26, 38),
    "efficientnet_b6": (2, 8, 14, 30, 44),
}
"""Blocks after which the authors' EfficientNets are tapped: strides 2, 4, 8, 16 and 32."""
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2")
"""Torchvision's; taps 1 to 4 have strides 4 to 32."""

_DEEPEST = 5
"""The last layer that a backbone can be tapped at."""
_NETWORK = {
    "hidden_dim": "hidden_dim",
    "nhead": "heads",
    "num_encoder_layers": "encoder_layers",
    "num_decoder_layers": "decoder_layers",
    "dim_feedforward": "feedforward",
    "dropout": "dropout",
    "activation": "activation",
    "normalize_before": "pre_norm",
    "pos_embed_type": "position",
}
"""Options of the reconstruction, and the recipe's fields."""
_OTHER = (
    "feature_jitter",
    "neighbor_mask",
    "initializer",
    "feature_size",
    "save_recon",
    "inplanes",
    "instrides",
)
_POSITIONS = {"v2": "sine", "v3": "learned"}


def network_values(arch: Sequence[Mapping[str, Any]], where: str) -> dict[str, Any]:
    """The recipe fields that a description sets; options it leaves out have the paper's values.

    Raises:
        WrongCheckpoint: a part is missing or not one of the authors', an option is unknown, or the grid is
            not square.
    """
    parts = {part.get("name"): part for part in arch}
    if missing := [name for name in PARTS if name not in parts]:
        raise WrongCheckpoint(f"{where} describes no {', '.join(missing)}; expected {', '.join(PARTS)}")
    kind = str(parts["reconstruction"].get("type", ""))
    if not kind.endswith("UniAD"):
        raise WrongCheckpoint(
            f"{where} is of {kind or 'an unnamed network'}, not of UniAD; picture decoders belong to "
            "uniad-train-decoder, uniad-vis-recon and uniad-vis-query"
        )
    backbone, neck, options = (parts[name].get("kwargs") or {} for name in PARTS)
    if unknown := [name for name in options if name not in (*_NETWORK, *_OTHER)]:
        raise WrongCheckpoint(f"{where}: unknown options of the reconstruction: {', '.join(unknown)}")
    values = {field: options[name] for name, field in _NETWORK.items() if name in options}
    values["position"] = _POSITIONS.get(values.get("position", ""), values.get("position", MVTEC.position))
    values["backbone"] = tag_of(str(parts["backbone"].get("type", "")))
    values["strides"] = strides_of(values["backbone"], backbone)
    values["out_stride"] = int((neck.get("outstrides") or [MVTEC.out_stride])[0])
    if "feature_size" in options:
        height, width = options["feature_size"]
        if height != width:
            raise WrongCheckpoint(f"{where} has a grid of {height}x{width}; only square images are supported")
        values["image_size"] = height * values["out_stride"]
    jitter = options.get("feature_jitter") or {"scale": 0.0, "prob": 0.0}
    values |= {"jitter_scale": float(jitter["scale"]), "jitter_prob": float(jitter["prob"])}
    mask = options.get("neighbor_mask") or {}
    masks = ("mask_encoder", "mask_memory", "mask_previous")
    values |= dict(zip(masks, mask.get("mask", (False, False, False)), strict=True))
    if mask:
        values["neighbourhood"] = tuple(mask["neighbor_size"])
    values["initialisation"] = (options.get("initializer") or {}).get("method", "normal")
    return values


def arch_of(recipe: Recipe, channels: Sequence[int]) -> list[dict[str, Any]]:
    """The description of a recipe's network, as the authors' code would have written it.

    Args:
        channels: of the backbone's maps.
    """
    theirs, strides = name_of(recipe.backbone), list(recipe.strides)
    taps: dict[str, Any] = {"outstrides": strides}
    if theirs in BLOCKS:
        taps["outblocks"] = [BLOCKS[theirs][stride.bit_length() - 2] for stride in strides]
    elif theirs in RESNETS:
        taps["outlayers"] = [stride.bit_length() - 2 for stride in strides]
    side = recipe.image_size // recipe.out_stride
    neck = {
        "outstrides": [recipe.out_stride],
        "outplanes": [sum(channels)],
        "inplanes": list(channels),
        "instrides": strides,
    }
    reconstruction = {
        **{name: getattr(recipe, field) for name, field in _NETWORK.items()},
        "feature_jitter": {"scale": recipe.jitter_scale, "prob": recipe.jitter_prob},
        "neighbor_mask": {"neighbor_size": list(recipe.neighbourhood), "mask": list(recipe.masked)},
        "initializer": {"method": recipe.initialisation},
        "save_recon": False,
        "feature_size": [side, side],
        "inplanes": [sum(channels)],
        "instrides": [recipe.out_stride],
    }
    backbone = {"pretrained": False, **taps}
    return [
        {"name": "backbone", "type": f"models.backbones.{theirs}", "frozen": True, "kwargs": backbone},
        {"name": "neck", "prev": "backbone", "type": "models.necks.MFCN", "kwargs": neck},
        {
            "name": "reconstruction",
            "prev": "neck",
            "type": "models.reconstructions.UniAD",
            "kwargs": reconstruction,
        },
    ]


def tag_of(theirs: str) -> str:
    """The timm tag of a backbone by the authors' name, "models.backbones.efficientnet_b4"."""
    name = theirs.rpartition(".")[2]
    if name in BLOCKS:
        return f"tf_{name}.aa_in1k"
    if name in RESNETS:
        return f"{name}.tv_in1k"
    raise BadValue(f"unknown backbone '{theirs}'; the authors' are {', '.join((*BLOCKS, *RESNETS))}")


def name_of(tag: str) -> str:
    """The authors' name of a backbone by its timm tag."""
    return tag.partition(".")[0].removeprefix("tf_")


def strides_of(tag: str, options: Mapping[str, Any]) -> tuple[int, ...]:
    """Strides of the maps that a backbone's options choose: as they are, by block, or by layer from 1."""
    if "outstrides" in options:
        return tuple(options["outstrides"])
    theirs = name_of(tag)
    if "outblocks" in options:
        return tuple(2 ** (BLOCKS[theirs].index(block) + 1) for block in options["outblocks"])
    first = 0 if theirs in BLOCKS else 1
    layers = options.get("outlayers", (1, 2, 3, 4))
    if not all(isinstance(layer, int) and 0 <= layer <= _DEEPEST for layer in layers):
        raise BadValue(f"outlayers is {layers}; expected numbers from 0 to {_DEEPEST}")
    return tuple(2 ** (layer + first) for layer in layers)
