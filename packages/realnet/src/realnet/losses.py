"""The losses of RealNet (section 3.3 and 3.4), and the focal loss that its code offers instead."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def segmentation_cross_entropy(
    logits: Float[Tensor, "batch 2 height width"], masks: Float[Tensor, "batch height width"]
) -> Float[Tensor, ""]:
    """Mean over all pixels of the cross-entropy between logits and masks of values in [0, 1]."""
    # Faithful: only a mask of exactly 1 counts as anomalous; grey edges are normal.
    return F.cross_entropy(logits, masks.long())


def segmentation_focal(
    logits: Float[Tensor, "batch 2 height width"],
    masks: Float[Tensor, "batch height width"],
    *,
    alpha: float | None = None,
    gamma: float = 2.0,
    balance_index: int = 0,
    smooth: float = 1e-5,
) -> Float[Tensor, ""]:
    """Mean over all pixels of -a (1 - p)^gamma ln p, where p is the probability of the pixel's class.

    Args:
        alpha: weight of class `balance_index`; the other class has 1 - alpha. None: both have 1.
        gamma: how little pixels count that are right already.
        balance_index: 0 normal, 1 anomalous.
        smooth: the target is kept this far from 0 and 1, and p from 0.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017 (arXiv 1708.02002).
    """
    anomalous = masks.long().to(logits.dtype)
    target = torch.stack([1 - anomalous, anomalous], dim=1).clamp(smooth, 1 - smooth)
    right = (target * logits.softmax(dim=1)).sum(dim=1) + smooth
    loss = -((1 - right) ** gamma) * right.log()
    if alpha is not None:
        weights = torch.full_like(anomalous, 1 - alpha)
        loss = loss * weights.masked_fill(anomalous == balance_index, alpha)
    return loss.mean()


def feature_mse(
    rebuilt: Sequence[Float[Tensor, "batch _ _ _"]], clean: Sequence[Float[Tensor, "batch _ _ _"]]
) -> Float[Tensor, ""]:
    """Sum over the blocks of the mean squared distance from the features of the clean images."""
    return torch.stack([F.mse_loss(ours, wanted) for ours, wanted in zip(rebuilt, clean, strict=True)]).sum()
