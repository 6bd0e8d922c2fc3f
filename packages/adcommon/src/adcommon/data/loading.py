"""Records -> batches: decoded once, in an order that can be resumed and shared between processes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, UInt8
from torch.utils.data import get_worker_info

from adcommon.data.ahead import on_device, placed
from adcommon.data.content import code_version, content_digest
from adcommon.data.order import require, train_indices
from adcommon.data.preprocess import Preprocess
from adcommon.data.processes import received, result_loader, results, suited
from adcommon.data.sources.splits import hold_out
from adcommon.io.cache import DiskCache
from adcommon.types.prediction import Batch, PixelBatch
from adcommon.types.records import Box, Record

DEFAULT_MEMORY_BYTES = 2**30
"""Decoded images a dataset keeps in memory: 5,400 of 256x256 pixels."""


class AnomalyDataset:
    """Images and masks of records, each decoded once.

    A decoded image is kept in memory, up to a limit, and in `cache`, under a key made of the file's
    content: a file that changes between two runs is decoded again, whatever its size and date say.
    """

    def __init__(
        self,
        records: Sequence[Record],
        preprocess: Preprocess,
        cache: DiskCache | None = None,
        *,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
    ) -> None:
        """Nothing is read yet.

        Args:
            records: what to load; `Batch.indices` are positions in it.
            memory_bytes: limit of what is kept in memory, all loader processes together.
        """
        self.records = records
        self.preprocess = preprocess
        self.cache = cache
        self.memory_bytes = memory_bytes
        self._kept: dict[tuple[str, int], np.ndarray] = {}
        self._kept_bytes = 0
        self._cut: tuple[Path, dict[Box, np.ndarray]] | None = None

    def __len__(self) -> int:
        """Number of records."""
        return len(self.records)

    def __getstate__(self) -> dict[str, Any]:
        """What a loader process gets: not the images that this one has decoded."""
        return self.__dict__ | {"_kept": {}, "_kept_bytes": 0, "_cut": None}

    def batch(self, indices: Sequence[int]) -> Batch:
        """The images at these positions, in this order, on the CPU."""
        return placed(self.pixel_batch(indices), self.preprocess, "cpu")

    def pixel_batch(self, indices: Sequence[int]) -> PixelBatch:
        """The same before the images are normalised."""
        records = [self.records[index] for index in indices]
        pixels = self.pixels(indices)
        masks = np.zeros((len(indices), *pixels.shape[1:3]), dtype=bool)
        for mask, index in zip(masks, indices, strict=True):
            if (truth := self.mask(index)) is not None:
                mask[:] = truth
        return PixelBatch(
            pixels=torch.from_numpy(pixels),
            masks=torch.from_numpy(masks),
            labels=torch.tensor([record.label for record in records], dtype=torch.int64),
            indices=torch.tensor(indices, dtype=torch.int64),
        )

    def pixels(self, indices: Sequence[int]) -> UInt8[np.ndarray, "batch size size 3"]:
        """The images at these positions before they are normalised."""
        return np.stack([self._pixels(index) for index in indices])

    def content_key(self, index: int) -> str:
        """Text that is equal for equal pixels: their file's content, the preprocessing, its code."""
        record = self.records[index]
        part = "" if record.box is None else f" box {record.box}"
        return f"{content_digest(record.image)} {self.preprocess.key()}{part} {code_version()}"

    def _pixels(self, index: int) -> np.ndarray:
        record = self.records[index]
        decode = partial(self.preprocess.pixels, record.image)
        return self.keep("pixels", index, decode if record.box is None else partial(self._tile, index))

    def _tile(self, index: int) -> np.ndarray:
        """A tile of a photograph, which is decoded once for all of them: the others are kept too."""
        record = self.records[index]
        assert record.box is not None
        if self._cut is None or self._cut[0] != record.image:
            tiles, size, _ = self.preprocess.read(record.image)
            self._cut = record.image, dict(zip(self.preprocess.boxes(*size), tiles, strict=True))
            if self.cache is not None or self._kept_bytes < self.memory_bytes:
                for place in self._beside(index):
                    self.keep("pixels", place, partial(self._tile, place))
        return self._cut[1][record.box].copy()  # not all of them

    def _beside(self, index: int) -> Iterator[int]:
        """The places of the other tiles of a tile's photograph, as `cut` gives them."""
        image = self.records[index].image
        for step in (-1, 1):
            place = index + step
            while 0 <= place < len(self.records) and self.records[place].image == image:
                yield place
                place += step

    def mask(self, index: int) -> Bool[np.ndarray, "size size"] | None:
        """The mask of the image at this position; None if there is none."""
        record = self.records[index]
        if record.mask is None:
            return None
        kind = f"mask {self.preprocess.mask_rule} {record.mask_upright}"
        if self.cache is not None:
            kind += f" {content_digest(record.mask)}"
        return self.keep(kind, index, partial(self.preprocess.mask, record))

    def appearance(self, index: int) -> Float64[np.ndarray, " statistics"]:
        """Of the whole image at this position, see `data.kind`."""
        image = self.records[index].image
        return self.keep("appearance", index, partial(self.preprocess.appearance, image))

    def keep(self, kind: str, index: int, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """An array made of a record's files: from memory, else from the cache, else made now; left in both.

        Args:
            kind: what it is, and all that it depends on besides the files and the preprocessing.
        """
        array = self._kept.get((kind, index))
        if array is not None:
            return array
        if self.cache is None:
            array = decode()
        else:
            key = f"{kind} {self.content_key(index)}"
            array = self.cache.get(key)
            if array is None:
                array = decode()
                self.cache.put(key, array)
        worker = get_worker_info()
        if self._kept_bytes + array.nbytes <= self.memory_bytes // (worker.num_workers if worker else 1):
            self._kept[kind, index] = array
            self._kept_bytes += array.nbytes
        return array


def cut(records: Sequence[Record], preprocess: Preprocess) -> list[Record]:
    """The records of the tiles of images, one image's beside each other and without mask; uncut, the images'.

    Raises:
        UnreadableImage: an image whose size cannot be read.
    """
    if preprocess.tile is None:
        return list(records)
    return [
        replace(record, box=box, mask=None)
        for record in records
        for box in preprocess.boxes(*preprocess.size_of(record.image))
    ]


def divide(
    normal: Sequence[Record], preprocess: Preprocess, *, share: float, seed: int
) -> tuple[list[Record], list[Record]]:
    """What is trained on, cut, and the images kept out of training, whole; see `cut` and `hold_out`."""
    training, held_out = hold_out(normal, share, seed)
    return cut(training, preprocess), held_out


class OrderedBatches:
    """Batches of a dataset, in its order; may be iterated again and keeps its processes."""

    def __init__(
        self,
        dataset: AnomalyDataset,
        batch_size: int,
        workers: int | None,
        device: torch.device | str,
        rank: int,
        world: int,
    ) -> None:
        """As `test_batches`."""
        self._dataset, self._device = dataset, device
        self._indices = ordered_indices(len(dataset), batch_size, rank, world)
        workers = suited(workers)
        self._loader = result_loader(dataset.pixel_batch, self._indices, workers, seed=0) if workers else None

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._indices)

    def __iter__(self) -> Iterator[Batch]:
        """From the first batch to the last, which may be smaller."""
        batches = map(self._dataset.pixel_batch, self._indices)
        read = batches if self._loader is None else received(self._loader)
        return on_device(read, self._dataset.preprocess, self._device)


def ordered_indices(count: int, batch_size: int, rank: int = 0, world: int = 1) -> list[list[int]]:
    """The positions of each batch of `count` images in their order.

    Of `world` processes each takes whole batches, in turn, so that an image is in the same company as with
    one process: the last digits of a convolution may depend on it.
    """
    require(batch_size=(batch_size, 1))
    firsts = range(0, count, batch_size)[rank::world]
    return [list(range(first, min(first + batch_size, count))) for first in firsts]


def test_batches(
    dataset: AnomalyDataset,
    batch_size: int,
    workers: int | None = 0,  # noqa: PT028
    *,
    device: torch.device | str = "cpu",  # noqa: PT028
    rank: int = 0,  # noqa: PT028
    world: int = 1,  # noqa: PT028
) -> OrderedBatches:
    """The batches of a dataset in its order, or one process's share of them, see `ordered_indices`.

    Args:
        workers: loading processes; 0 loads in this one, None: see `suited`.
        device: where the images are to be.
    """
    return OrderedBatches(dataset, batch_size, workers, device, rank, world)


test_batches.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def train_batches(
    dataset: AnomalyDataset,
    batch_size: int,
    *,
    seed: int,
    start: int = 0,
    drop_last: bool = False,
    workers: int | None = 0,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Batches without end, each epoch in another order, which depends on `seed` and the epoch alone.

    With several processes each gets its contiguous share of every global batch; the last batch of an
    epoch is trimmed to a multiple of `world`, and left out if nothing remains.

    Args:
        batch_size: images per global batch.
        start: batches to pass over, as many as were already consumed; their images are not read.
        drop_last: leave out the smaller batch at the end of an epoch.
        workers: loading processes; 0 loads in this one, None: see `suited`.
        device: where the images are to be.
        rank: number of this process, from 0, of the `world` that train together.
    """
    indices = train_indices(
        len(dataset), batch_size, seed=seed, start=start, drop_last=drop_last, rank=rank, world=world
    )
    read = results(dataset.pixel_batch, indices, workers, seed=seed)
    return on_device(read, dataset.preprocess, device)
