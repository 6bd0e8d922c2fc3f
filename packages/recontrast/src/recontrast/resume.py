"""The parts of an unfinished training, for `adcommon.resume`."""

from typing import Any

from accelerate.optimizer import AcceleratedOptimizer
from torch.optim.lr_scheduler import LambdaLR

from adcommon.training.resume import Stateful
from recontrast.model import ReContrast


class _WithPartialNorm:
    """A model whose state includes the variances that PartialNorm remembers, which are in no checkpoint."""

    def __init__(self, model: ReContrast) -> None:
        self._model = model

    def state_dict(self) -> dict[str, Any]:
        return {"entries": self._model.state_dict(), "partial_norm": self._model.resume_buffers()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._model.load_state_dict(state_dict["entries"])
        self._model.load_resume_buffers(state_dict["partial_norm"])


def parts(model: ReContrast, optimiser: AcceleratedOptimizer, schedule: LambdaLR) -> dict[str, Stateful]:
    """Everything that a step of the training changes."""
    return {"model": _WithPartialNorm(model), "optimiser": optimiser, "schedule": schedule}
