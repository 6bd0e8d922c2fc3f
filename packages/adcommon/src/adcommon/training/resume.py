"""The state of an unfinished training: what `--resume` continues from, to the same bits on a CPU."""

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from torch import Tensor

from adcommon.errors import WrongCheckpoint
from adcommon.io.files import atomic_write, plain
from adcommon.models.checkpoint import DAMAGED, first_line
from adcommon.training.run import Run, refuse_changed

logger = logging.getLogger(__name__)


def save_resume(path: Path, state: dict[str, Any]) -> None:
    """Write everything a training needs to go on: dicts, lists and tuples of tensors, numbers and text."""
    _check_plain(state, "state")
    atomic_write(path, lambda file: torch.save(state, file))


def load_resume(path: Path) -> dict[str, Any] | None:
    """What `save_resume` wrote, with tensors on the CPU; None if there is nothing.

    Raises:
        WrongCheckpoint: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, *DAMAGED) as error:
        raise WrongCheckpoint(
            f"cannot read the resume state {path}: {first_line(error)}\n  Start afresh with --force"
        ) from error


def _check_plain(value: object, where: str) -> None:
    """Refuse what the restricted unpickler would refuse later, when the run is long gone."""
    if isinstance(value, Tensor) or type(value) in (int, float, bool, str, type(None)):
        return
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _check_plain(entry, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple) and type(value) in (list, tuple):
        for number, entry in enumerate(value):
            _check_plain(entry, f"{where}[{number}]")
    else:
        raise TypeError(
            f"{where} is a {type(value).__qualname__}; a resume state holds tensors, numbers and text"
        )


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
        refuse_changed(run.folder, state["recipe"], plain(recipe))
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
