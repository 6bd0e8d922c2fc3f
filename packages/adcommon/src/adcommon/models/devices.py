"""The device that a model computes on."""

import logging

import torch

from adcommon.errors import BadValue

logger = logging.getLogger(__name__)


def choose_device(gpu: str | None = None, device: str | None = None) -> torch.device:
    """The device that `--gpu N|cpu` or `--device NAME` asks for; by default the first GPU, else the CPU.

    A GPU that is asked for by number and does not exist falls back to the CPU, as in the papers' scripts,
    and the log says so; a device asked for by name must exist.

    Raises:
        BadValue: an unknown device name, or one this machine does not have.
    """
    if device is not None:
        return _named_device(device)
    if gpu == "cpu":
        return torch.device("cpu")
    if gpu is not None and not gpu.isdigit():
        raise BadValue(f"--gpu is '{gpu}'; expected a number (0, 1, ...) or 'cpu'")
    number = int(gpu or 0)
    if number < torch.cuda.device_count():
        return torch.device("cuda", number)
    if gpu is not None:
        logger.warning(
            "GPU %s is not available (%d found): running on the CPU", gpu, torch.cuda.device_count()
        )
    return torch.device("cpu")


def _named_device(name: str) -> torch.device:
    try:
        chosen = torch.device(name)
    except RuntimeError:
        raise BadValue(f"--device is '{name}'; expected a torch device: cpu, cuda:0, mps") from None
    available = {
        "cpu": True,
        "cuda": (chosen.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(chosen.type, False):
        raise BadValue(f"--device is '{name}', which this machine does not have; try --device cpu")
    return chosen
