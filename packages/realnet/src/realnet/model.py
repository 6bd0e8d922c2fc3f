"""RealNet (CVPR 2024): selected features of a frozen backbone, their reconstructions, the decoder (figure 3).

image -> backbone -> AFS -> features of each block -> reconstruction -> squared residual -> RRS -> logits
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor, nn

from adcommon.errors import BadValue
from adcommon.models.backbones import FeaturePyramid, map_channels
from adcommon.training.recipes import is_unchosen
from realnet.network.afs import AFS, Levels
from realnet.network.reconstruction import Reconstruction, SimpleReconstruction
from realnet.network.rrs import RRS
from realnet.network.structure import (
    GROUPS,
    Block,
    check_planes,
    fitting_structure,
    layers_of,
    misfit,
    parse_structure,
)
from realnet.recipes import RECIPES, Recipe

logger = logging.getLogger(__name__)

Features = list[Float[Tensor, "batch _channels _height _width"]]
"""Maps of all blocks, in order."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the losses and the anomaly map are made of."""

    features: Features
    rebuilt: Features
    """What the features of a normal image would be."""
    residuals: Features
    """Squared differences of the two."""
    logits: Float[Tensor, "batch 2 height width"]
    """Normal and anomalous, at the size of the images."""


class Trainable(nn.Module):
    """What learns: reconstruction networks and RRS, from selected features to outputs."""

    def __init__(self, blocks: Sequence[Block], recon: nn.ModuleDict, rrs: RRS) -> None:
        """Share the modules with the model that owns them."""
        super().__init__()
        self.blocks = tuple(blocks)
        self.recon = recon
        self.rrs = rrs

    def forward(self, features: Features) -> Outputs:
        """Rebuild the features; where that fails, the image is anomalous."""
        rebuilt = [network(block) for network, block in zip(self.recon.values(), features, strict=True)]
        # Residuals are ranked, so they stay in the features' precision whatever the networks compute in.
        residuals = [
            (block - ours.to(block.dtype)).square() for block, ours in zip(features, rebuilt, strict=True)
        ]
        stride = self.blocks[0].stride
        size = (features[0].shape[2] * stride, features[0].shape[3] * stride)
        return Outputs(features, rebuilt, residuals, self.rrs(residuals, size))


class RealNet(nn.Module):
    """Backbone, AFS, one reconstruction network per block, RRS."""

    def __init__(self, recipe: Recipe, *, weights: str | None) -> None:
        """An untrained model; entries are the authors', but for `backbone.trunk` (`feature_extractor`).

        Args:
            weights: of the backbone: "pretrained", "random" or a file; None: a checkpoint will fill it.
        """
        super().__init__()
        self.blocks = parse_structure(recipe.structure)
        # Drawn in this order: RRS, the reconstruction networks, a random backbone.
        rrs = RRS(
            sum(block.channels for block in self.blocks),
            recipe.modes(),
            residual_layers=recipe.rrs_layers,
            stop_grad=recipe.stop_grad,
        )
        recon = {f"{block.name}_recon": _network(block, recipe) for block in self.blocks}
        self.backbone = build_backbone(recipe, weights=weights)
        strides = layers_of(self.blocks, recipe.backbone)
        self.channels = dict(zip(strides, self.backbone.channels, strict=True))
        """Of the backbone's maps, by layer, fine to coarse."""
        self.afs = AFS(self.blocks, strides)
        self.recon = nn.ModuleDict(recon)
        self.rrs = rrs

    def trainable(self) -> Trainable:
        """The part that learns, on the features that `features` selects; it shares this model's modules."""
        return Trainable(self.blocks, self.recon, self.rrs)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Outputs:
        """Features, reconstructions, residuals and logits of images."""
        return self.trainable()(self.features(images))

    def features(self, images: Float[Tensor, "batch 3 height width"]) -> Features:
        """Selected features of images, without gradients."""
        return self.afs(self.levels(self.backbone(images)))

    def levels(self, maps: Sequence[Float[Tensor, "batch _ _ _"]]) -> Levels:
        """The backbone's maps by layer."""
        return dict(zip(self.channels, maps, strict=True))


def build_backbone(recipe: Recipe, *, weights: str | None) -> FeaturePyramid:
    """The frozen network with the layers that the recipe's structure uses.

    Raises:
        BadValue: it has no such layers, or a block keeps more channels than a layer has.
    """
    blocks = parse_structure(recipe.structure)
    layers = layers_of(blocks, recipe.backbone)
    backbone = FeaturePyramid(
        recipe.backbone, weights, strides=tuple(layers.values()), channels_last=recipe.channels_last
    )
    try:
        check_planes(blocks, dict(zip(layers, backbone.channels, strict=True)), recipe.backbone)
    except BadValue as error:
        raise BadValue(f"{error}; what fits is {_as_flags(*_fitting(recipe, recipe.modes()))}") from None
    return backbone


def fitted(recipe: Recipe, given: Collection[str] = ()) -> Recipe:
    """The recipe with blocks that fit its backbone, if nobody chose them.

    Args:
        given: fields that the user named.
    """
    if not is_unchosen("structure", recipe, RECIPES, given):
        return recipe
    blocks, channels = parse_structure(recipe.structure), map_channels(recipe.backbone)
    kept = [planes for block in blocks for planes in block.layers]
    strides = layers_of(blocks, recipe.backbone)
    if all(planes <= channels.get(strides[layer], 0) for layer, planes in kept):
        return recipe
    structure, modes = _fitting(recipe, recipe.modes())
    if not is_unchosen("rrs_modes", recipe, RECIPES, given):
        modes = recipe.rrs_modes
    logger.info("blocks for %s: %s", recipe.backbone, _as_flags(structure, modes))
    return replace(recipe, structure=structure, rrs_modes=modes)


def _fitting(recipe: Recipe, modes: Sequence[tuple[str, int]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Blocks that fit backbone, images and networks of a recipe, and rankings that take no more channels."""

    def suits(width: int) -> bool:
        if width % GROUPS or recipe.reconstruction == "simple":
            return width % GROUPS == 0
        widths = (recipe.hidden_ratio, recipe.channel_mult, recipe.attention_mult, recipe.head_width)
        return misfit(width, *widths) is None

    halved = 2 ** (recipe.levels - 1)
    channels = {
        stride: planes
        for stride, planes in map_channels(recipe.backbone).items()
        if recipe.image_size % (stride * halved) == 0
    }
    structure = fitting_structure(channels, recipe.backbone, suits)
    most = sum(block.channels for block in parse_structure(structure))
    return structure, tuple(f"{mode}:{min(count, most)}" for mode, count in modes)


def _as_flags(structure: Sequence[str], modes: Sequence[str]) -> str:
    return f"--structure {' '.join(structure)} --rrs-modes {' '.join(modes)}"


def _network(block: Block, recipe: Recipe) -> nn.Module:
    if recipe.reconstruction == "simple":
        return SimpleReconstruction(block.channels, recipe.simple_layers)
    return Reconstruction(
        block.channels,
        int(recipe.hidden_ratio * block.channels),
        res_blocks=recipe.res_blocks,
        channel_mult=recipe.channel_mult,
        attention_mult=recipe.attention_mult,
        head_width=recipe.head_width,
    )


def parameter_counts(model: RealNet) -> dict[str, int]:
    """Numbers of values that are learned or frozen, by part; chosen channels are none."""
    parts = {"backbone": model.backbone, **model.recon, "rrs": model.rrs}
    return {name: sum(value.numel() for value in part.parameters()) for name, part in parts.items()}
