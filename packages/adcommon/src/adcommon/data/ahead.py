"""Batches on the device that works on them: the next is on its way while one is in use."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from adcommon.data.normalise import normalise
from adcommon.data.preprocess import Preprocess
from adcommon.types.prediction import Batch, PixelBatch

Read = TypeVar("Read")
Placed = TypeVar("Placed")


def placed(batch: PixelBatch, preprocess: Preprocess, device: torch.device | str) -> Batch:
    """A batch with its images on `device`, normalised there; the rest stays where it is."""
    images = normalise(batch.pixels.to(device, non_blocking=True), preprocess)
    return Batch(images, batch.masks, batch.labels, batch.indices)


def on_device(
    batches: Iterable[PixelBatch], preprocess: Preprocess, device: torch.device | str
) -> Iterator[Batch]:
    """The batches, each `placed` while the device works on the one before, see `ahead`."""
    return ahead(batches, partial(placed, preprocess=preprocess, device=device), device)


def ahead(
    batches: Iterable[Read], place: Callable[[Read], Placed], device: torch.device | str
) -> Iterator[Placed]:
    """`place` of each batch, in order.

    On a GPU each is read and copied, on a stream of its own, while the device still works on the one before:
    a copy from page-locked memory (`non_blocking=True`) then waits for nothing. Elsewhere a batch is made
    when it is asked for.

    Args:
        place: brings a batch to the device, and may compute there.
        device: where the batches go.
    """
    device = torch.device(device)
    return map(place, batches) if device.type != "cuda" else _streamed(batches, place, device)


def _streamed(
    batches: Iterable[Read], place: Callable[[Read], Placed], device: torch.device
) -> Iterator[Placed]:
    stream = torch.cuda.Stream(device)
    coming: list[Placed] = []

    def handed_over() -> Placed:
        """The oldest batch; the current stream waits for its copy, and the host does not."""
        placed, current = coming.pop(0), torch.cuda.current_stream(device)
        current.wait_stream(stream)
        for tensor in _tensors(placed):
            if tensor.is_cuda:
                tensor.record_stream(current)  # else its memory would be given away while it is in use here
        return placed

    for batch in batches:
        with torch.cuda.stream(stream):
            coming.append(place(batch))
        if len(coming) > 1:
            yield handed_over()
    if coming:
        yield handed_over()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif dataclasses.is_dataclass(value):
        yield from _tensors([getattr(value, field.name) for field in dataclasses.fields(value)])
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)
