"""One update of the model, and the schedules around it."""

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from recontrast.losses import Criterion
from recontrast.model import ReContrast
from recontrast.recipes import Recipe


def make_optimiser(model: ReContrast, recipe: Recipe) -> tuple[AdamW, LambdaLR]:
    """AdamW over decoder, bottleneck and trained encoder, and its schedule, stepped per iteration.

    One optimiser with three groups computes what the reference's two do: AdamW treats each parameter alone.
    """
    trainable = [
        [parameter for parameter in module.parameters() if parameter.requires_grad]
        for module in (model.decoder, model.bottleneck, model.encoder)
    ]
    optimiser = AdamW(
        [
            {"params": trainable[0], "lr": recipe.decoder_lr},
            {"params": trainable[1], "lr": recipe.decoder_lr},
            {"params": trainable[2], "lr": recipe.encoder_lr},
        ],
        betas=(recipe.adam_beta1, recipe.adam_beta2),
        eps=recipe.adam_eps,
        weight_decay=recipe.weight_decay,
        amsgrad=recipe.amsgrad,
        fused=True,
    )
    milestone = int(recipe.lr_milestone * recipe.iterations)
    schedule = LambdaLR(optimiser, lambda step: recipe.lr_factor if step >= milestone else 1.0)
    return optimiser, schedule


def update(
    model: torch.nn.Module,
    images: Float[Tensor, "batch 3 height width"],
    optimiser: Optimizer,
    accelerator: Accelerator,
    criterion: Criterion,
    *,
    hold_encoder: bool = False,
    frozen: list[Float[Tensor, "batch _ _ _"]] | None = None,
) -> Float[Tensor, ""]:
    """One optimiser step; returns the loss before it.

    Args:
        criterion: the loss, see `recontrast.losses.criterion_of`.
        frozen: the frozen encoder's maps of the images; None: computed here.
        hold_encoder: leave the trained encoder as it is in this step.
    """
    with accelerator.autocast():
        outputs = model(images, frozen)
    loss = criterion(outputs)
    optimiser.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    if hold_encoder:
        for parameter in optimiser.param_groups[2]["params"]:
            parameter.grad = None
    optimiser.step()
    return loss.detach()


def holds_encoder(recipe: Recipe, iteration: int) -> bool:
    """True while the encoder rests after a reset of the decoder's optimiser ("stable" experiments)."""
    if not recipe.reset_every or iteration < recipe.reset_every:
        return False
    return iteration % recipe.reset_every < recipe.encoder_pause


def resets_optimiser(recipe: Recipe, iteration: int) -> bool:
    """True if the decoder's and bottleneck's optimiser state is emptied after this iteration."""
    return bool(recipe.reset_every) and (iteration + 1) % recipe.reset_every == 0


def reset(optimiser: Optimizer) -> None:
    """Forget the moments and step counts of decoder and bottleneck."""
    for group in optimiser.param_groups[:2]:
        for parameter in group["params"]:
            optimiser.state.pop(parameter, None)
