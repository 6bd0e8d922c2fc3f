"""Anomaly-aware feature selection: the channels that see synthetic anomalies best (section 3.2).

A channel is good if the change that an anomaly makes in it looks like the anomaly's mask.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from realnet.network.structure import Block

Levels = Mapping[str, Float[Tensor, "batch _channels _height _width"]]
"""Maps of the backbone by layer."""
NORMALISE_EPS = 1e-4
"""Added to the range of a channel's differences before they are divided by it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The same images with and without synthetic anomalies, as the backbone sees them."""

    anomalous: Levels
    clean: Levels
    masks: Float[Tensor, "batch height width"]
    """Of the anomalies, in [0, 1], at the size of the images."""


class AFS(nn.Module):
    """Keeps the chosen channels of each layer and joins the layers of a block."""

    def __init__(self, blocks: Sequence[Block], strides: Mapping[str, int]) -> None:
        """The first channels are kept until `keep_best` or a checkpoint says which."""
        super().__init__()
        self.blocks = tuple(blocks)
        self.strides = dict(strides)
        self.indexes = nn.ParameterDict(
            {
                key_of(block, layer): nn.Parameter(torch.arange(planes), requires_grad=False)
                for block in blocks
                for layer, planes in block.layers
            }
        )

    def forward(self, levels: Levels) -> list[Float[Tensor, "batch _channels _height _width"]]:
        """Features of each block."""
        return [
            torch.cat([self._kept(block, layer, levels[layer]) for layer, _ in block.layers], dim=1)
            for block in self.blocks
        ]

    def chooses(self, channels: Mapping[str, int]) -> bool:
        """True if some layer, which has that many channels, does not keep them all."""
        return any(planes < channels[layer] for block in self.blocks for layer, planes in block.layers)

    @torch.no_grad()
    def keep_best(self, scores: Mapping[str, Float[Tensor, " _"]]) -> None:
        """Keep the channels with the lowest scores, see `total_scores`; all of a layer that has none."""
        for key, index in self.indexes.items():
            best = best_channels(scores[key], len(index)) if key in scores else torch.arange(len(index))
            index.copy_(best)

    @torch.no_grad()
    def keep_random(self, channels: Mapping[str, int], seed: int) -> None:
        """Keep any channels of layers that have that many."""
        generator = torch.Generator().manual_seed(seed)
        for block in self.blocks:
            for layer, planes in block.layers:
                drawn = torch.randperm(channels[layer], generator=generator)[:planes]
                self.indexes[key_of(block, layer)].copy_(drawn.sort().values)

    def grid(self, block: Block, layer: str, level: Float[Tensor, "batch _ _ _"]) -> tuple[int, int]:
        """Height and width of a block, from a map of one of its layers."""
        stride = self.strides[layer]
        return level.shape[2] * stride // block.stride, level.shape[3] * stride // block.stride

    def _kept(
        self, block: Block, layer: str, level: Float[Tensor, "batch _ _ _"]
    ) -> Float[Tensor, "batch _ _ _"]:
        kept = level.index_select(1, self.indexes[key_of(block, layer)])
        return upsample(kept, self.grid(block, layer, level))


@torch.no_grad()
def total_scores(
    afs: AFS, channels: Mapping[str, int], pairs: Iterable[Pair]
) -> dict[str, Float[Tensor, " channels"]]:
    """The sum over all pairs of each channel's score, by block and layer; the lowest are best.

    Layers that keep every channel they have are left out: whatever their scores, the choice is the same.
    """
    totals: dict[str, Float[Tensor, " channels"]] = {}
    for pair in pairs:
        for block in afs.blocks:
            for layer, planes in block.layers:
                if planes < channels[layer]:
                    clean, key = pair.clean[layer], key_of(block, layer)
                    grid = afs.grid(block, layer, clean)
                    scores = channel_scores(pair.anomalous[layer], clean, pair.masks, grid)
                    totals[key] = totals[key] + scores if key in totals else scores
    return totals


def channel_scores(
    anomalous: Float[Tensor, "batch channels _ _"],
    clean: Float[Tensor, "batch channels _ _"],
    masks: Float[Tensor, "batch height width"],
    grid: tuple[int, int],
) -> Float[Tensor, " channels"]:
    """Mean squared distance of each channel's normalised change from the mask; lower is better.

    With D = (anomalous - clean)^2 on the block's grid, a = 1 / (max D - min D + 1e-4) and m = min D over the
    whole batch, the score is mean((a (D - m) - mask)^2). It is computed from sums of D, D^2 and D x mask, so
    D is read once.
    """
    change = upsample(anomalous - clean, grid).square()  # the upsampling is linear: once for the difference
    label = F.interpolate(masks[:, None], grid, mode="nearest").to(change.dtype)
    low, high = change.amin(dim=(0, 2, 3)), change.amax(dim=(0, 2, 3))
    factor = 1 / (high - low + NORMALISE_EPS)
    mean, square = change.mean(dim=(0, 2, 3)), change.square().mean(dim=(0, 2, 3))
    on_mask = (change.flatten(2) @ label.flatten(2).transpose(1, 2)).sum(dim=(0, 2)) / label.numel()
    shifted_square = square - 2 * low * mean + low.square()
    shifted_on_mask = on_mask - low * label.mean()
    return factor.square() * shifted_square - 2 * factor * shifted_on_mask + label.square().mean()


def best_channels(scores: Float[Tensor, " channels"], planes: int) -> Int64[Tensor, " planes"]:
    """The channels with the lowest scores, ascending; one without a score counts as the worst."""
    known = scores[~scores.isnan()]
    worst = known.max() if len(known) else scores.new_zeros(())
    return scores.where(~scores.isnan(), worst).topk(planes, largest=False).indices.sort().values


def upsample(
    maps: Float[Tensor, "batch channels _ _"], size: tuple[int, ...]
) -> Float[Tensor, "batch channels height width"]:
    """Bilinear with corners on corners, the one interpolation of this network; nothing to do at its size."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)


def key_of(block: Block, layer: str) -> str:
    """Name of a selection, as in the authors' checkpoints."""
    return f"{block.name}_{layer}"
