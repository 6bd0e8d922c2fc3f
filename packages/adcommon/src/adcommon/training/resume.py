"""The state of an unfinished training: what `--resume` continues from, to the same bits on a CPU."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adcommon.data.messages import shorten
from adcommon.errors import BadValue, OutputFailed, WrongCheckpoint
from adcommon.io.files import atomic_write, plain
from adcommon.io.schema import convert
from adcommon.models.pickles import DAMAGED, first_line, load_foreign
from adcommon.training.run import Run, refuse_changed
from adcommon.types.values import Count

logger = logging.getLogger(__name__)

_ROOM_FOR_THE_REST = 2**20
"""Bytes of tables and logs."""
_AFRESH = "It is the state of an unfinished training: start that afresh with --force."


def save_resume(path: Path, state: dict[str, Any]) -> None:
    """Write everything a training needs to go on: dicts, lists and tuples of tensors, numbers and text."""
    _check_plain(state, "state")
    atomic_write(path, lambda file: torch.save(state, file))


def load_resume(path: Path) -> dict[str, Any] | None:
    """What `save_resume` wrote, with tensors on the CPU; None if there is nothing.

    Raises:
        WrongCheckpoint: the file is damaged, or something else.
    """
    if not path.exists():
        return None
    try:
        return load_foreign(path)
    except WrongCheckpoint as error:
        raise WrongCheckpoint(f"{error}\n  {_AFRESH}") from error


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


def _step_of(value: object, file: Path) -> int:
    try:
        return int(convert(value, Count, f"{file}: step"))
    except BadValue as error:
        raise WrongCheckpoint(f"{error}\n  {_AFRESH}") from None


def _refuse_other(ours: object, theirs: object, file: Path, name: str = "the state") -> None:
    """Refuse a state of another form than ours at the start; what is empty or None then may be anything."""
    if expected := _difference(ours, theirs):
        raise WrongCheckpoint(
            f"{file}: {name} is a {type(theirs).__name__}; expected {expected}\n  {_AFRESH}"
        )
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for entry, value in ours.items():
            _refuse_other(value, theirs[entry], file, f"{name}.{entry}".removeprefix("the state."))
    elif isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        for number, (value, other) in enumerate(zip(ours, theirs, strict=False)):
            _refuse_other(value, other, file, f"{name}[{number}]")


def _difference(ours: object, theirs: object) -> str | None:
    """What was expected in the place of `theirs`; None if it fits."""
    if ours is None or theirs is None:
        return None
    if isinstance(ours, Tensor):
        fits = isinstance(theirs, Tensor) and ours.shape == theirs.shape
        return None if fits else f"a tensor of shape {tuple(ours.shape)}"
    if isinstance(ours, Mapping):
        if not isinstance(theirs, Mapping):
            return "a dict"
        missing, unknown = ours.keys() - theirs.keys(), theirs.keys() - ours.keys()
        other = f"other entries (missing: {shorten(missing)}; unknown: {shorten(unknown)})"
        if ours and (missing or unknown):
            return other
        is_optimiser = {"state", "param_groups"} <= theirs.keys()
        return None if not is_optimiser or _are_moments(theirs["state"]) else "an optimiser's moments"
    if isinstance(ours, list | tuple):
        fits = isinstance(theirs, list | tuple) and len(theirs) == (len(ours) or len(theirs))
        return None if fits else f"a list of {len(ours)}"
    fits = isinstance(theirs, str) if isinstance(ours, str) else isinstance(theirs, int | float)
    return None if fits else f"a value such as {ours!r}"


def _are_moments(state: object) -> bool:
    """True for what an optimiser keeps of each parameter: the same few tensors, of one shape or none."""
    if not isinstance(state, Mapping) or not all(isinstance(entry, Mapping) for entry in state.values()):
        return False
    entries: list[Mapping[str, Any]] = list(state.values())
    tensors = [[value for value in entry.values() if value is not None] for entry in entries]
    return (
        len({frozenset(entry) for entry in entries}) <= 1
        and all(isinstance(value, Tensor) for values in tensors for value in values)
        and all(len({value.shape for value in values if value.ndim}) <= 1 for values in tensors)
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


def refuse_without_room(run: Run, learning: nn.Module) -> None:
    """Refuse to begin a training whose state and model would not fit on the disk.

    Args:
        learning: its weights go into both, with two moments each into the state.

    Raises:
        OutputFailed: says how much is needed and how much is free.
    """
    weights = sum(weight.numel() * weight.element_size() for weight in learning.parameters())
    needed, free = 4 * weights + _ROOM_FOR_THE_REST, shutil.disk_usage(run.folder).free
    if free < needed:
        raise OutputFailed(
            f"{run.folder} needs some {needed / 1e6:.0f} MB for the state and the model of this training, "
            f"and {free / 1e6:.0f} MB are free. Free some space or choose another --out"
        )


def restore(run: Run, recipe: object, parts: Mapping[str, Stateful], accelerator: Accelerator) -> int:
    """Set everything back to the last saved state; the number of steps it had done, 0 if there is none.

    Raises:
        BadValue: the run was begun with another recipe.
        WrongCheckpoint: the file is damaged, or what it says does not fit this training.
    """
    state = load_resume(run.state)
    step = 0
    if state is not None:
        known = {
            "step": 0,
            "recipe": {},
            "parts": {name: part.state_dict() for name, part in parts.items()},
            "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
            "torch_generator": torch.get_rng_state(),
        }
        _refuse_other(known, state, run.state)
        step = _step_of(state["step"], run.state)
        refuse_changed(run.folder, state["recipe"], plain(recipe))
        try:
            for name, part in parts.items():
                part.load_state_dict(state["parts"][name])
            if accelerator.scaler is not None:
                accelerator.scaler.load_state_dict(state["scaler"])
            torch.set_rng_state(state["torch_generator"])
        except DAMAGED as error:
            message = f"{run.state} does not fit this training: {first_line(error)}\n  {_AFRESH}"
            raise WrongCheckpoint(message) from error
        logger.info("resuming after step %d", step)
    if accelerator.is_main_process:
        run.rewind(step)
    accelerator.wait_for_everyone()
    return step
