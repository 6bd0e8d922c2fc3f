"""What of an unfinished training is ResAD's own: three optimisers, boundaries, the epoch's losses so far."""

from typing import Any

from accelerate import Accelerator

from adcommon.training import resume
from adcommon.training.run import Run
from resad.epoch import EpochLosses
from resad.losses import RunningBoundaries
from resad.model import ResAD
from resad.optimiser import Optimisers
from resad.recipes import Recipe


class Progress:
    """Everything that changes while training, besides the model."""

    def __init__(
        self, optimisers: Optimisers, boundaries: RunningBoundaries, losses: EpochLosses, best: float = 0.0
    ) -> None:
        """Hold them; `best` is the highest mean of the selected metric so far."""
        self.optimisers = optimisers
        self.boundaries = boundaries
        self.losses = losses
        self.best = best

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and text; a schedule's milestones are a Counter, which becomes a dict."""
        return {
            "optimisers": {name: part.state_dict() for name, part in self.optimisers.optimisers.items()},
            "schedules": {
                name: {key: dict(value) if isinstance(value, dict) else value for key, value in state.items()}
                for name, part in self.optimisers.schedules.items()
                if (state := part.state_dict())
            },
            "boundaries": list(self.boundaries.values),
            "losses": self.losses.state(),
            "best": self.best,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for name, optimiser in self.optimisers.optimisers.items():
            optimiser.load_state_dict(state_dict["optimisers"][name])
        for name, schedule in self.optimisers.schedules.items():
            schedule.load_state_dict(state_dict["schedules"][name])
        self.boundaries.load(state_dict["boundaries"])
        self.losses.load(state_dict["losses"])
        self.best = float(state_dict["best"])


def save(
    run: Run, step: int, recipe: Recipe, model: ResAD, progress: Progress, accelerator: Accelerator
) -> None:
    """Write down everything that `restore` needs, in one file."""
    resume.save(run, step, recipe, {"model": model, "progress": progress}, accelerator)


def restore(run: Run, recipe: Recipe, model: ResAD, progress: Progress, accelerator: Accelerator) -> int:
    """Set everything back to the last saved state; the number of steps it had done, 0 if there is none."""
    return resume.restore(run, recipe, {"model": model, "progress": progress}, accelerator)
