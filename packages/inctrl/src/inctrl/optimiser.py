"""One update of the adapter and the heads."""

from collections.abc import Iterable

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from inctrl.batch_order import Order, assign
from inctrl.data import TrainBatch
from inctrl.losses import training_loss
from inctrl.model import Outputs
from inctrl.network.residual import patch_residual, text_score, unit


def make_optimiser(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> Optimizer:
    """AdamW with a constant learning rate; the reference has no schedule."""
    return AdamW(parameters, lr=lr, weight_decay=weight_decay)


def forward_batch(
    model: nn.Module, batch: TrainBatch, text: Float[Tensor, "batch 2 embed"] | None, shots: int, order: Order
) -> tuple[Outputs, Float[Tensor, "batch patches"]]:
    """What the model says of a training batch, and its residual maps.

    Args:
        text: T of each query's category; None: there is no text tower.
        order: see `inctrl.batch_order`.
    """
    query, references, reference_tokens = assign(batch.query, batch.references, shots, order)
    residual_map = patch_residual(query, unit(references))
    told = None if text is None else text_score(batch.query.tokens, text)
    return model(batch.query.tokens, reference_tokens, residual_map, told), residual_map


def update(
    model: nn.Module,
    batch: TrainBatch,
    text: Float[Tensor, "batch 2 embed"] | None,
    optimiser: Optimizer,
    accelerator: Accelerator,
    *,
    shots: int,
    order: Order,
    gamma: float = 2.0,
    logits: bool = True,
) -> Float[Tensor, ""]:
    """One optimiser step; returns the loss before it."""
    with accelerator.autocast():
        outputs, _ = forward_batch(model, batch, text, shots, order)
    loss = training_loss(outputs, batch.labels, gamma=gamma, logits=logits)
    optimiser.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    optimiser.step()
    return loss.detach()


def gather_text(
    table: dict[str, Float[Tensor, "2 embed"]] | None, categories: list[str]
) -> Float[Tensor, "batch 2 embed"] | None:
    """T of each query, from those of the categories."""
    return None if table is None else torch.stack([table[category] for category in categories])
