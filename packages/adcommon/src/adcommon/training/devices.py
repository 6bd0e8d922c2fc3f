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

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)


def start(device: torch.device, precision: str = "fp32") -> "Accelerator":
    """The accelerator of this process; under torchrun it also joins the process group.

    Args:
        device: from `choose_device`; under torchrun each process takes the GPU of its own rank instead.
        precision: "fp32", "bf16" or "fp16" (fp16 needs a GPU).
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if precision == "fp16" and device.type != "cuda":
        raise BadValue(f"--precision fp16 needs a CUDA GPU; on {device.type} use fp32 or bf16")
    if "LOCAL_RANK" not in os.environ:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
        # accelerate keeps the first device and precision of a process; the next training may want others
        AcceleratorState._reset_state(reset_partial_state=True)
    mixed_precision = "no" if precision == "fp32" else precision
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=mixed_precision)
    logger.info(
        "device %s processes %d precision %s", accelerator.device, accelerator.num_processes, precision
    )
    return accelerator


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices), and ask cuDNN for deterministic kernels."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that still use the global state
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def distribute(
    model: torch.nn.Module, accelerator: "Accelerator", *, sync_batch_norm: bool = False
) -> torch.nn.Module:
    """The model, wrapped so that its gradients are averaged where there are several processes.

    Batch-norm statistics stay per process unless `sync_batch_norm`, which torch offers on GPUs only; a model
    with batch norm therefore trains slightly differently on several processes.
    """
    on_gpu = accelerator.device.type == "cuda"
    if sync_batch_norm and not (on_gpu and accelerator.num_processes > 1):
        raise BadValue("--sync-batch-norm needs several GPUs; start with torchrun, or leave it out")
    if accelerator.num_processes == 1:
        return model
    if sync_batch_norm:
        from timm.layers import convert_sync_batchnorm

        model = convert_sync_batchnorm(model)  # timm's keeps the activations that it fuses into norms
    return torch.nn.parallel.DistributedDataParallel(
        model, device_ids=[accelerator.device] if on_gpu else None
    )


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
