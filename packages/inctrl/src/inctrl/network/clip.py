"""CLIP through open_clip, frozen: the image tower with patch tokens of chosen blocks, and the text tower."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn

from adcommon.errors import BadValue, unknown_name
from adcommon.io.schema import convert, read_json
from adcommon.models.backbones import repeatable_draws
from adcommon.models.checkpoint import load_strict
from adcommon.models.outline import build_random, build_to_fit
from adcommon.types.values import Depth, Width
from inctrl.network.prompts import sentences

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training images, in [0, 1]."""

_OPTIONAL = ("logit_scale", "logit_bias")
"""Entries that no score reads, and that the authors' checkpoints lack."""


def model_config(name: str) -> dict[str, Any]:
    """Sizes of a model's towers, in open_clip's form.

    Args:
        name: one of open_clip's ViTs, or a JSON file in the form of open_clip's model configurations.

    Raises:
        UnknownName: no such model, with the nearest known one.
        BadValue: one whose image tower is no plain ViT.
    """
    config = read_json(Path(name)) if name.endswith(".json") else open_clip.get_model_config(name)
    if config is None and not name.endswith(".json"):
        vits = [known for known in open_clip.list_models() if "ViT" in known]
        raise unknown_name("CLIP model", name, vits)
    known = {"embed_dim": Width, "quick_gelu": bool, "vision_cfg": CLIPVisionCfg, "text_cfg": CLIPTextCfg}
    plain = isinstance(config, dict) and not config.get("custom_text")
    towers = [config.get(tower) for tower in ("vision_cfg", "text_cfg")] if plain else []
    for tower in towers:
        plain &= isinstance(tower, dict) and isinstance(tower.get("layers"), int)
        plain = plain and not {"timm_model_name", "hf_model_name"} & tower.keys()
    if not plain:
        raise BadValue(f"'{name}' is no CLIP with two plain transformers; expected one such as ViT-B-16")
    config = {field: value for field, value in config.items() if field in known}
    for field, value in config.items():
        convert(value, known[field], f"{name}: {field}")
    for tower in towers:
        convert(tower["layers"], Depth, f"{name}: layers", error=BadValue)
    vision = config["vision_cfg"]
    sides, patch = np.atleast_1d(vision.get("image_size", 224)), vision.get("patch_size", 16)
    if not 1 <= patch <= min(sides):
        raise BadValue(f"{name}: vision_cfg has images of {sides} pixels in patches of {patch}")
    words = len(tokeniser(1).encoder)
    if (size := config["text_cfg"].get("vocab_size", words)) < words:
        raise BadValue(f"{name}: text_cfg.vocab_size is {size}; CLIP's tokeniser has {words} words")
    return config


def build_clip(config: Mapping[str, Any], state: Mapping[str, Tensor] | None) -> open_clip.CLIP:
    """Both towers, frozen and in evaluation mode.

    Args:
        state: entries under open_clip's names; None: random ones, the same in every run.

    Raises:
        WrongCheckpoint: names every entry that is missing, unknown or of another shape.
    """

    def make() -> open_clip.CLIP:
        with repeatable_draws():
            return open_clip.CLIP(**config)

    def fill(clip: open_clip.CLIP) -> None:
        optional = {name: value for name, value in clip.state_dict().items() if name in _OPTIONAL}
        given = {name: value for name, value in (state or {}).items() if name not in _OPTIONAL}
        load_strict(clip, optional | given, where="the weights of CLIP")

    where = "the configuration of CLIP"
    clip = build_random(make, where) if state is None else build_to_fit(make, fill, state, where)
    return clip.requires_grad_(False).eval()


class ClipTower(nn.Module):
    """CLIP's image tower: the class token in the space shared with text, and raw patch tokens."""

    def __init__(self, clip: open_clip.CLIP, tag: str, layers: Sequence[int]) -> None:
        """Take the image tower of `clip`.

        Args:
            layers: blocks whose output gives the levels, counted from 1; no norm, no projection.
        """
        super().__init__()
        self.tag = tag
        self.visual = clip.visual
        blocks = len(self.visual.transformer.resblocks)
        if not layers or not all(1 <= layer <= blocks for layer in layers):
            raise BadValue(f"layers is {tuple(layers)}; expected blocks of '{tag}', 1 to {blocks}")
        self.layers = tuple(layers)
        self.grid: tuple[int, int] = tuple(self.visual.grid_size)
        self.size: int = self.visual.image_size[0]
        self.strides = (self.size, *(self.size // self.grid[0] for _ in layers))
        self.embed: int = self.visual.output_dim
        self.channels = (self.visual.conv1.out_channels,) * len(layers)

    def extra_repr(self) -> str:
        """What decides the maps besides the weights; caches of features go by it."""
        return f"layers={self.layers}"

    @torch.no_grad()
    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch _channels _height _width"]]:
        """The class token as a map of one cell, then the patch tokens of each block."""
        out = self.visual.forward_intermediates(images, indices=[layer - 1 for layer in self.layers])
        return [out["image_features"][:, :, None, None], *out["image_intermediates"]]


@torch.no_grad()
def text_features(
    clip: open_clip.CLIP, category: str, *, semantic: bool = True, batch_size: int = 64
) -> Float[Tensor, "2 embed"]:
    """T: what CLIP's text tower makes of the sentences about normal and about anomalous images.

    Each sentence's feature is normalised, then their mean is.
    """
    device = next(clip.parameters()).device
    groups = []
    for group in sentences(category, semantic=semantic):
        tokens = tokeniser(clip.context_length)(group).to(device)
        features = torch.cat([clip.encode_text(part) for part in tokens.split(batch_size)])
        groups.append(F.normalize(F.normalize(features, dim=-1).mean(dim=0), dim=0))
    return torch.stack(groups)


@cache
def tokeniser(context_length: int) -> open_clip.SimpleTokenizer:
    """CLIP's own, which makes token numbers of so many columns from a list of texts."""
    return open_clip.SimpleTokenizer(context_length=context_length)
