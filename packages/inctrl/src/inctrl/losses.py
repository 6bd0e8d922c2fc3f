"""The training loss: a focal loss on each of two scores (section 3.4, equations 8 and 9)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from inctrl.model import Outputs


def focal(
    scores: Float[Tensor, " batch"],
    labels: Float[Tensor, " batch"],
    *,
    alpha: float = 1.0,
    gamma: float = 2.0,
    logits: bool = True,
) -> Float[Tensor, " batch"]:
    """Alpha (1 - exp(-l))^gamma l, where l is the binary cross entropy of each score.

    Args:
        logits: take the scores as logits; False: as probabilities.
    """
    entropy = F.binary_cross_entropy_with_logits if logits else F.binary_cross_entropy
    loss = entropy(scores, labels, reduction="none")
    return alpha * (1 - torch.exp(-loss)) ** gamma * loss


def training_loss(
    outputs: Outputs,
    labels: Float[Tensor, " batch"],
    *,
    gamma: float = 2.0,
    logits: bool = True,
    on_image: bool = True,
) -> Float[Tensor, ""]:
    """FL(final, y) + FL(s_i, y), each a mean over the batch.

    Args:
        logits: both scores are probabilities already, and the reference takes them as logits: a sigmoid is
            applied twice and the loss cannot reach 0.
        on_image: False: without the second part, for a score that is made without s_i.
    """
    final, image = (
        focal(scores, labels, gamma=gamma, logits=logits).mean() for scores in (outputs.final, outputs.image)
    )
    return final + image if on_image else final
