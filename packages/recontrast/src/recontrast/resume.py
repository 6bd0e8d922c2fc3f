"""The state of an unfinished training: what `--resume` continues from, to the same bits on a CPU."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch.optim.lr_scheduler import LambdaLR

from adcommon.checkpoints import load_resume, save_resume
from adcommon.errors import BadValue
from adcommon.files import plain
from adcommon.runs import Run
from recontrast.model import ReContrast
from recontrast.recipes import Recipe

logger = logging.getLogger(__name__)


def save(
    run: Run,
    step: int,
    recipe: Recipe,
    model: ReContrast,
    optimiser: AcceleratedOptimizer,
    schedule: LambdaLR,
    accelerator: Accelerator,
) -> None:
    """Write down everything that `restore` needs, in one file."""
    save_resume(
        run.state,
        {
            "step": step,
            "recipe": plain(recipe),
            "model": model.state_dict(),
            "partial_norm": model.resume_buffers(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
            "torch_generator": torch.get_rng_state(),
        },
    )


def restore(
    run: Run,
    recipe: Recipe,
    model: ReContrast,
    optimiser: AcceleratedOptimizer,
    schedule: LambdaLR,
    accelerator: Accelerator,
) -> int:
    """Set everything back to the last saved state; the number of steps it had done, 0 if there is none."""
    state = load_resume(run.state)
    step = 0 if state is None else int(state["step"])
    if state is not None:
        _same_recipe(state["recipe"], plain(recipe), run)
        model.load_state_dict(state["model"])
        model.load_resume_buffers(state["partial_norm"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
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
