"""Results computed by loader processes, in order; a user's mistake keeps its message."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from adcommon.data.order import require
from adcommon.errors import UserError

Key = TypeVar("Key")
Result = TypeVar("Result")


def results(
    compute: Callable[[Key], Result], keys: Iterable[Key], workers: int | None, *, seed: int
) -> Iterator[Result]:
    """`compute` of each key, in order, by `workers` processes; 0 computes in this one, None: see `suited`.

    Args:
        seed: of the processes' own randomness, which `compute` had better not use.
    """
    workers = suited(workers)
    return map(compute, keys) if workers == 0 else received(result_loader(compute, keys, workers, seed=seed))


def suited(workers: int | None) -> int:
    """The number of loader processes; None: one that suits the machine.

    On a CPU the learning itself takes every core, and what is loaded is kept: none. Beside a GPU this
    process's share of the cores but one, at most 8.
    """
    if workers is not None:
        require(workers=(workers, 0))
        return workers
    if not torch.cuda.is_available():
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(8, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


def result_loader(
    compute: Callable[[Key], Result], keys: Iterable[Key], workers: int, *, seed: int
) -> "DataLoader[Result | UserError]":
    """As `results`, to be iterated by `received` as often as `keys` can be; keeps its processes."""
    return DataLoader(
        _Results(compute),
        sampler=keys,
        batch_size=None,
        num_workers=workers,
        persistent_workers=True,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
    )


def received(loader: "DataLoader[Result | UserError]") -> Iterator[Result]:
    """What the processes computed; a user's mistake is raised here."""
    for result in loader:
        if isinstance(result, UserError):
            raise result
        yield result


class _Results(TorchDataset, Generic[Key, Result]):
    """Results by their keys, for the processes of a `DataLoader`.

    A user's mistake travels as a value: raised there, its message would come back inside a traceback.
    """

    def __init__(self, compute: Callable[[Key], Result]) -> None:
        self._compute = compute

    def __getitem__(self, key: Key) -> Result | UserError:
        try:
            return self._compute(key)
        except UserError as error:
            return error
