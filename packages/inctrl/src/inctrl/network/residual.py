"""Residual of a query to its normal references, patch by patch, and what text says of it (section 3.2)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from adcommon.models.compute import full_precision
from adcommon.models.neighbours import nearest

TINY = 1e-6
"""Keeps the relative residual of equal references defined."""


def patch_residual(
    query: Sequence[Float[Tensor, "batch patches _channels"]],
    references: Sequence[Float[Tensor, "rows reference_patches _channels"]],
) -> Float[Tensor, "batch patches"]:
    """M: how far each patch is from the nearest patch of the references, in [0, 1], mean over levels.

    M_l(p) = min over q of (1 - cos(P_l(x)_p, P_l(r)_q)) / 2.

    Args:
        query: by level.
        references: by level, the patches of all references, of length 1 (see `unit`); one row for all
            queries, or one for each.
    """
    total = query[0].new_zeros(query[0].shape[:2])
    for ours, theirs in zip(unit(query), references, strict=True):
        total += distance(ours, theirs)
    return total / len(query)


def unit(
    levels: Sequence[Float[Tensor, "rows patches _channels"]],
) -> list[Float[Tensor, "rows patches _channels"]]:
    """Each patch divided by its length."""
    return [F.normalize(level, dim=-1) for level in levels]


def distance(
    query: Float[Tensor, "batch patches channels"],
    references: Float[Tensor, "rows reference_patches channels"],
) -> Float[Tensor, "batch patches"]:
    """Half the cosine distance to the nearest reference, of vectors of length 1."""
    if len(references) == 1:  # one large product instead of `batch` small ones
        cosines = nearest(query, references[0])[1]
    else:
        cosines = torch.stack([nearest(*pair)[1] for pair in zip(query, references, strict=True)])
    return 0.5 * (1 - cosines)


def own_residual(
    references: Sequence[Float[Tensor, "rows reference_patches _channels"]],
    images: int,
    *,
    turns: int = 1,
    compared: int | None = None,
) -> Float[Tensor, " rows"]:
    """How far a patch of a reference is from the nearest patch of the other references, on average.

    Args:
        references: as in `patch_residual`; a row's images one after the other, and so its turns.
        images: of each row, at least 2.
        turns: of each image; the first one is compared with all turns of the others.
        compared: how many of the images are compared with the others; None: each.
    """
    first = len(references[0][0]) // turns // images * (compared or images)
    return torch.stack([_own_residual(row, images, turns, first) for row in zip(*references, strict=True)])


def _own_residual(
    levels: Sequence[Float[Tensor, "reference_patches _channels"]], images: int, turns: int, first: int
) -> Float[Tensor, ""]:
    count = len(levels[0])
    image = torch.arange(count, device=levels[0].device) // (count // (images * turns)) % images
    same = image[:first, None] == image
    with full_precision(image.device):
        cosines = [(level[:first] @ level.T).masked_fill(same, -1.0).amax(dim=1) for level in levels]
    return torch.stack([0.5 * (1 - best).mean() for best in cosines]).mean()


def relative_residual(
    residual: Float[Tensor, "batch patches"], own: Float[Tensor, "#batch"]
) -> Float[Tensor, "batch patches"]:
    """M / (M + own), in [0, 1): one half where a patch is as far from the references as they are from others.

    It so means the same for every backbone and product.
    """
    residual = residual.clamp(min=0)  # rounding makes a cosine larger than 1
    return residual / (residual + own[:, None] + TINY)


def text_score(
    tokens: Float[Tensor, "batch embed"], text: Float[Tensor, "rows 2 embed"], scale: float = 100.0
) -> Float[Tensor, " batch"]:
    """s_a: probability of the anomalous sentences, in (0, 1).

    Args:
        tokens: not normalised.
        text: normal and anomalous features of length 1; one row for all images, or one for each.
        scale: the paper's constant, not CLIP's learned one.
    """
    with full_precision(tokens.device):
        cosines = (text @ F.normalize(tokens, dim=-1)[:, :, None])[:, :, 0]
    return (scale * cosines).softmax(dim=1)[:, 1]
