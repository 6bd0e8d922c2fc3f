"""The state of an unfinished training: what `--resume` continues from, to the same bits on a CPU."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator

from adcommon.checkpoints import load_resume, save_resume
from adcommon.errors import BadValue
from adcommon.files import plain
from adcommon.runs import Run
from resad.epoch import EpochLosses
from resad.losses import RunningBoundaries
from resad.model import ResAD
from resad.optimiser import Optimisers
from resad.recipes import Recipe

logger = logging.getLogger(__name__)


def save(
    run: Run,
    step: int,
    recipe: Recipe,
    model: ResAD,
    optimisers: Optimisers,
    boundaries: RunningBoundaries,
    losses: EpochLosses,
    best: float,
) -> None:
    """Write down everything that `restore` needs, in one file.

    Args:
        losses: of the epoch so far.
        best: highest mean of the selected metric so far.
    """
    save_resume(
        run.state,
        {
            "step": step,
            "recipe": plain(recipe),
            "model": model.state_dict(),
            "optimisers": {name: part.state_dict() for name, part in optimisers.optimisers.items()},
            "schedules": {name: _plain(part.state_dict()) for name, part in optimisers.schedules.items()},
            "boundaries": list(boundaries.values),
            "losses": losses.state(),
            "best": best,
            "torch_generator": torch.get_rng_state(),
            "device_generator": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        },
    )


def restore(
    run: Run,
    recipe: Recipe,
    model: ResAD,
    optimisers: Optimisers,
    boundaries: RunningBoundaries,
    losses: EpochLosses,
    accelerator: Accelerator,
) -> tuple[int, float]:
    """Set everything back to the last saved state; its number of steps and best metric, else 0."""
    state = load_resume(run.state)
    step, best = (0, 0.0) if state is None else (int(state["step"]), float(state["best"]))
    if state is not None:
        _same_recipe(state["recipe"], plain(recipe), run)
        model.load_state_dict(state["model"])
        for name, optimiser in optimisers.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        for name, schedule in optimisers.schedules.items():
            schedule.load_state_dict(state["schedules"][name])
        boundaries.load(state["boundaries"])
        losses.load(state["losses"])
        torch.set_rng_state(state["torch_generator"])
        if state["device_generator"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["device_generator"])
        logger.info("resuming after step %d", step)
    if accelerator.is_main_process:
        run.rewind(step)
    accelerator.wait_for_everyone()
    return step, best


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """A schedule's state in plain types: its milestones are a Counter."""
    return {name: dict(value) if isinstance(value, dict) else value for name, value in state.items()}


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
