"""Adam as both trainings use it, and the options that make a network faster at equal numbers."""

import torch
from torch import nn
from torch.optim import Adam

from realnet.diffusion.base_recipe import TrainingRecipe


def make_optimiser(network: nn.Module, recipe: TrainingRecipe) -> Adam:
    """Adam over all parameters."""
    parameters = list(network.parameters())
    fused = parameters[0].device.type in ("cpu", "cuda")  # one pass over memory instead of eight
    return Adam(
        parameters,
        lr=recipe.lr,
        betas=(recipe.adam_beta1, recipe.adam_beta2),
        weight_decay=recipe.weight_decay,
        fused=fused,
    )


def compiled(network: nn.Module) -> nn.Module:
    """The network, to be compiled at its first call; it shares the weights."""
    made = torch.compile(network)
    assert isinstance(made, nn.Module)
    return made


def place(network: nn.Module, device: torch.device, *, channels_last: bool) -> nn.Module:
    """Move a network to a device, in the memory layout that suits it."""
    layout = torch.channels_last if channels_last else torch.preserve_format
    return network.to(device, memory_format=layout)  # type: ignore[call-overload]
