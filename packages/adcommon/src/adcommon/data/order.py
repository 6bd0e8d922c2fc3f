"""Which images make which batch: an order that can be resumed and shared between processes; no torch here."""

import itertools
from collections.abc import Iterator

import numpy as np

from adcommon.errors import BadValue, EmptySplit


def train_indices(
    images: int,
    batch_size: int,
    *,
    seed: int,
    start: int = 0,
    drop_last: bool = False,
    rank: int = 0,
    world: int = 1,
) -> Iterator[list[int]]:
    """The positions of the images in each batch of `train_batches`, which has the same arguments."""
    require(seed=(seed, 0), start=(start, 0), rank=(rank, 0))
    if rank >= world:
        raise BadValue(f"rank is {rank}; expected less than world = {world}")
    per_epoch = batches_per_epoch(images, batch_size, drop_last=drop_last, world=world)
    return _endless(images, batch_size, per_epoch, seed, start, rank, world)


def batches_per_epoch(images: int, batch_size: int, *, drop_last: bool = False, world: int = 1) -> int:
    """How many batches `train_batches` makes of each pass over the images."""
    require(batch_size=(batch_size, 1), world=(world, 1))
    if images == 0:
        raise EmptySplit("no images to train on")
    if batch_size % world:
        raise BadValue(
            f"batch size {batch_size} cannot be shared equally by {world} processes; "
            f"expected a multiple of {world}"
        )
    whole, rest = divmod(images, batch_size)
    batches = whole + (not drop_last and rest >= world)
    if batches == 0:
        raise BadValue(
            f"{images} training images make no batch of {batch_size} images for {world} processes; "
            "use a smaller batch"
        )
    return batches


def epoch_order(images: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch sees the images."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(images)


def _endless(
    images: int, batch_size: int, per_epoch: int, seed: int, start: int, rank: int, world: int
) -> Iterator[list[int]]:
    """The positions of one process's batches."""
    first_epoch, first_batch = divmod(start, per_epoch)
    for epoch in itertools.count(first_epoch):
        order = epoch_order(images, seed, epoch)
        for number in range(first_batch, per_epoch):
            global_batch = order[number * batch_size : (number + 1) * batch_size]
            share = len(global_batch) // world
            yield global_batch[rank * share : (rank + 1) * share].tolist()
        first_batch = 0


def require(**values: tuple[int, int]) -> None:
    """Refuse a value (first) below its minimum (second)."""
    for name, (value, minimum) in values.items():
        if value < minimum:
            raise BadValue(f"{name} is {value}; expected at least {minimum}")
