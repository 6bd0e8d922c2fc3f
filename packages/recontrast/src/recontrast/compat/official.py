"""Checkpoints in the layout of the authors' code, and reverse distillation's.

The authors released no checkpoint and no script of theirs saves one; the layout is the complete model's state
dict, `encoder.*`, `encoder_freeze.*`, `bottleneck.*`, `decoder.*`, as this project's model has it too.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from adcommon.data.messages import lines
from adcommon.errors import WrongCheckpoint
from recontrast.model import ReContrast

UNUSED = ("bottleneck.conv4.", "bottleneck.bn4.")
"""Entries no computation reads; a checkpoint may lack them."""


def load_official(model: ReContrast, state: Mapping[str, Tensor]) -> None:
    """Fill a model from a state dict in the authors' layout.

    Raises:
        WrongCheckpoint: an entry is missing, unknown or of another shape; the text names every one.
    """
    own = model.state_dict()
    absent = {name: value for name, value in own.items() if name not in state and name.startswith(UNUSED)}
    _load(model, {**absent, **state}, "the authors' ReContrast layout")


def to_official(model: ReContrast) -> dict[str, Tensor]:
    """A copy of a model's state on the CPU, in the authors' layout and order."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def load_reverse_distillation(model: ReContrast, checkpoint: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Fill bottleneck and decoder from a checkpoint {"bn": ..., "decoder": ...} of reverse distillation.

    Its decoder has no output heads: ours become identities. With a pretrained encoder, in eval mode, both
    reconstructions are then reverse distillation's, and the sum of six maps is twice the sum of its three.

    Raises:
        WrongCheckpoint: as `load_official`.
    """
    if not {"bn", "decoder"} <= checkpoint.keys():
        raise WrongCheckpoint(
            f"not reverse distillation's: it holds {sorted(checkpoint)}, expected 'bn' and 'decoder'"
        )
    parts = {"bottleneck": checkpoint["bn"], "decoder": checkpoint["decoder"]}
    state = {
        f"{part}.{name}": value
        for part, entries in parts.items()
        for name, value in entries.items()
        if "memory" not in name  # left over from its authors' trials
    }
    for name, value in model.state_dict().items():
        if name.startswith("decoder.out"):
            state[name] = (
                torch.eye(len(value))[:, :, None, None] if value.ndim == 4 else torch.zeros_like(value)
            )
        elif name.startswith(("encoder.", "encoder_freeze.")):
            state[name] = value
    _load(model, state, "reverse distillation's layout")


def _load(model: ReContrast, state: Mapping[str, Tensor], layout: str) -> None:
    own = model.state_dict()
    wrong = [f"missing: {name}" for name in own if name not in state]
    wrong += [f"unknown: {name}" for name in state if name not in own]
    wrong += [
        f"shape of {name}: {tuple(state[name].shape)}, the model has {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if wrong:
        raise WrongCheckpoint(
            f"the checkpoint does not fit this model in {layout} ({len(wrong)} entries); "
            f"is it of another backbone?{lines(wrong)}"
        )
    model.load_state_dict(dict(state))
