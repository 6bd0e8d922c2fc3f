"""The device that a model computes on."""

import platform

import torch

from adcommon.errors import BadValue


def choose_device(gpu: str | None = None, device: str | None = None) -> torch.device:
    """The device that `--gpu N|cpu` or `--device NAME` asks for; by default the first GPU, else the CPU.

    Raises:
        BadValue: both were given, or one this machine does not have.
    """
    if gpu is not None and device is not None:
        raise BadValue("--gpu and --device were both given; use one of them")
    if device is not None:
        return _named_device(device)
    found = torch.cuda.device_count()
    if gpu == "cpu" or (gpu is None and not found):
        return torch.device("cpu")
    if gpu is not None and not (gpu.isascii() and gpu.isdecimal()):
        raise BadValue(f"--gpu is {gpu!r}; expected a number (0, 1, ...) or 'cpu'")
    if gpu is not None and (len(gpu) > 4 or int(gpu) >= found):
        raise BadValue(
            f"--gpu is {gpu[:20]}; {found} GPUs were found, counted from 0. Use one of them, or --gpu cpu"
        )
    return torch.device("cuda", int(gpu or 0))


def in_words(device: torch.device) -> str:
    """A device as a report names it: the card, or how many cores of which machine."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}"
    return f"{device.type}, {torch.get_num_threads()} threads, {platform.machine()}"


def _named_device(name: str) -> torch.device:
    try:
        chosen = torch.device(name)
    except RuntimeError:
        raise BadValue(f"--device is {name[:60]!r}; expected a torch device: cpu, cuda:0, mps") from None
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    # torch keeps an index in 8 bits, so that cuda:256 would be cuda:0
    if str(chosen) != name or (chosen.index or 0) >= count.get(chosen.type, 0):
        raise BadValue(f"--device is '{name}', which this machine does not have; try --device cpu")
    return chosen
