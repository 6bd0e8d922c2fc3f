"""WinCLIP, the baseline: text, windows and patches of a frozen CLIP, compared with k normal images or none.

This is the version that InCTRL's authors compare with (WinCLIP: arXiv 2303.14814); zero-shot it reads the
whole image only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from inctrl.network.residual import distance, text_score
from inctrl.winclip.windows import SIDES, harmonic_map, window_patches


@dataclass(frozen=True, slots=True)
class Encoded:
    """Tiles of images, as CLIP's image tower sees them."""

    pooled: Float[Tensor, "tiles embed"]
    """The whole tile; not normalised."""
    windows: tuple[Float[Tensor, "tiles _windows embed"], ...]
    """By size of the window."""
    patches: Float[Tensor, "tiles patches width"]
    """After the last block; no norm, no projection."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What WinCLIP says of the tiles of one image; higher is more anomalous."""

    score: float
    """The image score: the mean of text and visual score, or the text score alone."""
    text: Float[Tensor, " tiles"]
    """Probability of the anomalous sentences."""
    windows: tuple[Float[Tensor, "tiles _windows"], ...]
    """Association scores by size of the window; empty without references, as what follows."""
    patches: Float[Tensor, "tiles patches"] | None
    window_maps: tuple[Float[Tensor, "tiles patches"], ...]
    """Harmonic means of the window scores, float64."""
    maps: Float[Tensor, "tiles patches"] | None
    """Their mean with the patch scores."""


@torch.no_grad()
def encode(
    visual: open_clip.transformer.VisionTransformer,
    images: Float[Tensor, "tiles 3 height width"],
    *,
    windows: bool = True,
) -> Encoded:
    """Pass tiles through the tower once, and all windows of one size as one batch of short sequences.

    Args:
        windows: False leaves them out, where nothing is compared with references.
    """
    embedded = visual._embeds(images)  # class token and patches, with their own positions
    tokens = visual.transformer(embedded)
    grid = (visual.grid_size[0], visual.grid_size[1])
    found = []
    for side in SIDES if windows else ():
        places = window_patches(grid, side).to(images.device)
        inside = embedded[:, 1:][:, places]
        first = embedded[:, None, :1].expand(-1, len(places), -1, -1)
        sequences = torch.cat([first, inside], dim=2).flatten(0, 1)
        pooled = _project(visual, visual.transformer(sequences))
        found.append(pooled.unflatten(0, (len(images), len(places))))
    return Encoded(_project(visual, tokens), tuple(found), tokens[:, 1:])


def _project(visual: open_clip.transformer.VisionTransformer, tokens: Tensor) -> Tensor:
    return visual.ln_post(tokens[:, 0]) @ visual.proj


def judge(
    query: Encoded, references: Sequence[Encoded], text: Float[Tensor, "2 embed"], grid: tuple[int, int]
) -> Judged:
    """Score one image.

    Args:
        references: the tiles of each reference image; none: zero-shot. Tile i is compared with tile i; where
            their numbers differ, with all tiles.
        text: features of length 1, without InCTRL's exceptions.
    """
    told = text_score(query.pooled, text[None])
    if not references:
        return Judged(float(told.mean()), told, (), None, (), None)
    count = len(query.pooled)
    aligned = all(len(reference.pooled) == count for reference in references)

    def against(own: Tensor, theirs: Sequence[Tensor]) -> Tensor:
        """Distance of each vector to the nearest of the references' vectors of its kind."""
        if aligned:
            rows = torch.cat(list(theirs), dim=1)
        else:
            rows = torch.cat([tensor.flatten(0, 1) for tensor in theirs])[None]
        # Rounding makes distances of equal vectors slightly negative, and sums of reciprocals of both signs
        # may cancel; the reference's score is infinite there.
        return distance(F.normalize(own, dim=-1), F.normalize(rows, dim=-1)).clamp_min(0)

    windows = tuple(
        against(own, [reference.windows[size] for reference in references])
        for size, own in enumerate(query.windows)
    )
    patches = against(query.patches, [reference.patches for reference in references])
    window_maps = tuple(harmonic_map(scores, grid, side) for scores, side in zip(windows, SIDES, strict=True))
    maps = (sum(window_maps, start=patches.double())) / (len(SIDES) + 1)
    visual = maps.amax(dim=1).float().mean()
    return Judged(float((visual + told.mean()) / 2), told, windows, patches, window_maps, maps)
