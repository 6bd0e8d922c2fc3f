"""How a run computes: processes, precision, seeds.

Processes are accelerate's business: `torchrun --nproc_per_node N --no-python <command>` starts several, and
every loop asks the `Accelerator` for its device and for `backward`. On a CPU the processes talk over gloo.
"""

import logging
import os
import random
from typing import TYPE_CHECKING

import numpy as np
import torch

from adcommon.errors import BadValue
from adcommon.models.compute import resolve, set_tf32
from adcommon.types.arithmetic import Arithmetic

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)


def start(device: torch.device, arithmetic: Arithmetic = Arithmetic()) -> "Accelerator":  # noqa: B008
    """The accelerator of this process; under torchrun it also joins the process group.

    What the arithmetic says of the whole process holds from now on, until another training starts.

    Args:
        device: from `choose_device`; under torchrun each process takes the GPU of its own rank instead.
        arithmetic: the recipe.

    Raises:
        BadValue: fp16 without a CUDA GPU.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    precision = resolve(arithmetic.precision, device, halves=arithmetic.halves)
    if "LOCAL_RANK" not in os.environ:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
        # accelerate keeps the first device and precision of a process; the next training may want others
        AcceleratorState._reset_state(reset_partial_state=True)
    set_tf32(precision == "tf32")
    _set_deterministic(arithmetic.deterministic, on_gpu=device.type == "cuda")
    mixed_precision = precision if precision in ("bf16", "fp16") else "no"
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=mixed_precision)
    asked = "" if arithmetic.precision == precision else f" (asked: {arithmetic.precision})"
    logger.info(
        "device %s processes %d precision %s%s compile %s channels_last %s deterministic %s",
        *(accelerator.device, accelerator.num_processes, precision, asked),
        *(arithmetic.compile, arithmetic.channels_last, arithmetic.deterministic or device.type == "cpu"),
    )
    return accelerator


def _set_deterministic(on: bool, *, on_gpu: bool) -> None:
    """Ask CUDA for the same bits in every run, or for the fastest kernels."""
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = on, not on
    if on and on_gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product
    torch.use_deterministic_algorithms(on and on_gpu, warn_only=True)


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that still use the global state
    torch.manual_seed(seed)


def distribute(
    model: torch.nn.Module,
    accelerator: "Accelerator",
    *,
    sync_batch_norm: bool = False,
    compiles: bool = False,
) -> torch.nn.Module:
    """The model as a loop calls it: its gradients are averaged where there are several processes.

    Batch-norm statistics stay per process unless `sync_batch_norm`, which torch offers on GPUs only; a model
    with batch norm therefore trains slightly differently on several processes.

    Args:
        compiles: see `compiled`; the model itself stays as it is.
    """
    on_gpu = accelerator.device.type == "cuda"
    if sync_batch_norm and not (on_gpu and accelerator.num_processes > 1):
        raise BadValue("--sync-batch-norm needs several GPUs; start with torchrun, or leave it out")
    if accelerator.num_processes > 1:
        if sync_batch_norm:
            from timm.layers import convert_sync_batchnorm

            model = convert_sync_batchnorm(model)  # timm's keeps the activations that it fuses into norms
        model = torch.nn.parallel.DistributedDataParallel(
            model, device_ids=[accelerator.device] if on_gpu else None
        )
    return compiled(model) if compiles else model


def compiled(model: torch.nn.Module) -> torch.nn.Module:
    """The model, to be compiled at its first call; it shares the weights."""
    made = torch.compile(model)
    assert isinstance(made, torch.nn.Module)
    return made


def any_process(flag: bool, accelerator: "Accelerator", *, when: bool = True) -> bool:
    """True on every process as soon as `flag` is set on one of them.

    Asking costs a message between processes: several of them ask only `when` it is due, which all must
    agree on; one process alone answers at once.
    """
    if accelerator.num_processes == 1:
        return flag
    if not when:
        return False
    votes = accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), reduction="sum")
    return bool(votes > 0)
