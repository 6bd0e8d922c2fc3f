"""Several processes that share the work around a training; one process alone passes through.

Whoever waits in a collective is ended after minutes (NCCL: ten). So processes that score meet after every
batch, and those that wait for what only the main one does ask a store now and then whether it is done.
"""

import time
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")

_ARRIVED = "adcommon/arrived"
_ASK_EVERY_S = 0.02


def place_of(accelerator: "Accelerator | None") -> tuple[int, int]:
    """Number of this process, from 0, the main one's, and of all; None: it is alone."""
    return (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)


def gathered(own: T | None, accelerator: "Accelerator | None") -> list[T]:
    """On the main process what each process has, in their order; on the others nothing. All of them call it.

    Args:
        own: can be pickled, and lies on the CPU; None: this process has nothing.
    """
    rank, world = place_of(accelerator)
    found: list[Any] = [own] if rank == 0 else []
    if world > 1:
        found = [None] * world if rank == 0 else []
        torch.distributed.gather_object(own, found or None)
    return [one for one in found if one is not None]


def meet(accelerator: "Accelerator | None") -> None:
    """Wait until every process has come here, however long the slowest takes.

    A process that dies on the way is torchrun's business, which ends the others.
    """
    rank, world = place_of(accelerator)
    if world == 1:
        return
    store = torch.distributed.distributed_c10d._get_default_store()
    store.add(_ARRIVED, 1)
    while store.add(_ARRIVED, 0) < world:
        time.sleep(_ASK_EVERY_S)
    torch.distributed.barrier()  # all have seen it
    if rank == 0:
        store.delete_key(_ARRIVED)
    torch.distributed.barrier()


@torch.no_grad()
def as_on_main(module: nn.Module, accelerator: "Accelerator | None") -> None:
    """Give the module of every process the main one's values: running statistics are each process's own."""
    if place_of(accelerator)[1] > 1:
        for value in module.state_dict().values():
            sent = value.contiguous()
            torch.distributed.broadcast(sent, 0)
            value.copy_(sent)
