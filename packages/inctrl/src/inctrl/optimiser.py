"""One update of the adapter and the heads."""

from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from inctrl.batches import Order, TrainBatch, assign
from inctrl.losses import training_loss
from inctrl.model import Outputs
from inctrl.network.residual import patch_residual, text_score, unit


def forward_batch(
    model: nn.Module, batch: TrainBatch, order: Order
) -> tuple[Outputs, Float[Tensor, "batch patches"]]:
    """What the model says of a training batch, and its residual maps."""
    query, references, reference_tokens = assign(batch, order)
    residual_map = patch_residual(query, unit(references))
    told = None if batch.text is None else text_score(batch.query.tokens, batch.text)
    return model(batch.query.tokens, reference_tokens, residual_map, told), residual_map


def update(
    model: nn.Module,
    batch: TrainBatch,
    optimiser: Optimizer,
    accelerator: Accelerator,
    *,
    order: Order,
    gamma: float = 2.0,
    logits: bool = True,
) -> Float[Tensor, ""]:
    """One optimiser step; returns the loss before it."""
    with accelerator.autocast():
        outputs, _ = forward_batch(model, batch, order)
    loss = training_loss(outputs, batch.labels, gamma=gamma, logits=logits)
    optimiser.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    optimiser.step()
    return loss.detach()
