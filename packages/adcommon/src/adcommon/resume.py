"""The state of an unfinished training: what `--resume` continues from, to the same bits on a CPU."""

import logging
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator

from adcommon.checkpoints import load_resume, save_resume
from adcommon.errors import BadValue
from adcommon.files import plain
from adcommon.runs import Run

logger = logging.getLogger(__name__)


@runtime_checkable
class Stateful(Protocol):
    """A part of the training that can be saved and set back: a module, an optimiser, a schedule."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and text."""
        ...

    def load_state_dict(self, state_dict: Any) -> Any:
        """Take back what `state_dict` gave."""
        ...


def save(
    run: Run, step: int, recipe: object, parts: Mapping[str, Stateful], accelerator: Accelerator
) -> None:
    """Write down everything that `restore` needs, in one file.

    Args:
        step: updates done.
        parts: by name, the same at every call.
    """
    save_resume(
        run.state,
        {
            "step": step,
            "recipe": plain(recipe),
            "parts": {name: part.state_dict() for name, part in parts.items()},
            "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
            "torch_generator": torch.get_rng_state(),
        },
    )


def restore(run: Run, recipe: object, parts: Mapping[str, Stateful], accelerator: Accelerator) -> int:
    """Set everything back to the last saved state; the number of steps it had done, 0 if there is none.

    Raises:
        BadValue: the run was begun with another recipe.
    """
    state = load_resume(run.state)
    step = 0 if state is None else int(state["step"])
    if state is not None:
        _same_recipe(state["recipe"], plain(recipe), run)
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["torch_generator"])
        logger.info("resuming after step %d", step)
    if accelerator.is_main_process:
        run.rewind(step)
    accelerator.wait_for_everyone()
    return step


def _same_recipe(before: Mapping[str, Any], now: Mapping[str, Any], run: Run) -> None:
    changed = [
        f"{name} was {before.get(name)}, is {value}"
        for name, value in now.items()
        if before.get(name) != value
    ]
    if changed:
        raise BadValue(
            f"the run in {run.folder} was begun with other values: {'; '.join(changed)}.\n"
            "  Resume it with the same ones (its recipe.yaml works with --config), or choose another --out"
        )
