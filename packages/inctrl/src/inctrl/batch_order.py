"""Which features of a training batch belong to which query: as the reference mixes them, or as they should.

The reference lays the levels of a batch out as (level, image) and then *reshapes* them to (image, level)
instead of permuting; so with more than one query each gets patches, levels and references of others. The
query's own token is not affected. The published checkpoints were trained that way.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from inctrl.network.features import Features

Order = Literal["reference", "corrected"]


def assign(
    query: Features, references: Features, shots: int, order: Order
) -> tuple[
    list[Float[Tensor, "batch patches _channels"]],
    list[Float[Tensor, "batch reference_patches _channels"]],
    Float[Tensor, "batch shots embed"],
]:
    """Query patches and reference patches by level, and reference tokens, for each query of a batch.

    Args:
        query: of `batch` images.
        references: of shots x batch images, shot-major: the first `batch` are each query's first reference.
        shots: references of each query.
        order: "reference" needs levels of one width.
    """
    batch = len(query.tokens)
    if order == "corrected":
        tokens = references.tokens.unflatten(0, (shots, batch)).transpose(0, 1)
        levels = [
            level.unflatten(0, (shots, batch)).transpose(0, 1).flatten(1, 2) for level in references.levels
        ]
        return query.levels, levels, tokens
    # Faithful: reshaped where it should be permuted.
    ours, theirs = torch.stack(query.levels), torch.stack(references.levels)
    count, _, patches, channels = ours.shape
    mixed = ours.reshape(batch, count, patches, channels)
    mixed_references = theirs.reshape(batch, count, shots * patches, channels)
    tokens = references.tokens.reshape(batch, shots, -1)
    return list(mixed.unbind(1)), list(mixed_references.unbind(1)), tokens
