"""One update of the adapter and the heads."""

from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from inctrl.batches import Order, TrainBatch, assign
from inctrl.losses import training_loss
from inctrl.model import Outputs
from inctrl.network.residual import own_residual, patch_residual, relative_residual, text_score, unit

COMPARED = 2
"""References of each query that are compared with the others, in training: their mean hardly differs from
that of all, at a quarter of the cost."""


def forward_batch(
    model: nn.Module, batch: TrainBatch, order: Order, *, relative: bool = False
) -> tuple[Outputs, Float[Tensor, "batch patches"]]:
    """What the model says of a training batch, and its residual maps.

    Args:
        relative: judge residuals by those between the references.
    """
    query, references, reference_tokens = assign(batch, order)
    known = unit(references)
    residual_map = patch_residual(query, known)
    if relative:
        residual_map = relative_residual(residual_map, own_residual(known, batch.shots, compared=COMPARED))
    told = None if batch.text is None else text_score(batch.query.tokens, batch.text)
    return model(batch.query.tokens, reference_tokens, residual_map, told), residual_map


def update(
    model: nn.Module,
    batch: TrainBatch,
    optimiser: Optimizer,
    accelerator: Accelerator,
    *,
    order: Order,
    relative: bool = False,
    gamma: float = 2.0,
    logits: bool = True,
    on_image: bool = True,
) -> Float[Tensor, ""]:
    """One optimiser step; returns the loss before it."""
    with accelerator.autocast():
        outputs, _ = forward_batch(model, batch, order, relative=relative)
    loss = training_loss(outputs, batch.labels, gamma=gamma, logits=logits, on_image=on_image)
    optimiser.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    optimiser.step()
    return loss.detach()
