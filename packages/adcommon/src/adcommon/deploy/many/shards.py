"""The unit of work: the images of a shard -> a Parquet file of what the model says of each.

It is written under another name and renamed: a shard that is there is whole, and is never done again.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adcommon.data.preprocess import Preprocess
from adcommon.deploy.inputs import Read, decode
from adcommon.deploy.many.listing import read_shard, source
from adcommon.deploy.model import Model
from adcommon.deploy.result import Result
from adcommon.deploy.rows import COLUMNS, file_digest
from adcommon.errors import UnreadableImage, WrongCheckpoint
from adcommon.io.files import atomic_write

SHARDS, MAPS = "shards", "maps"
_NUMBERS = ("score", "p_value", "threshold", "false_alarm_rate")
_ROWS = pa.schema(
    [(name, pa.float64() if name in _NUMBERS else pa.string()) for name in (*COLUMNS, "model_digest")]
)
"""The columns of predictions.csv, and which model it was."""
_MAPS = pa.schema(
    [("path", pa.string()), ("height", pa.int32()), ("width", pa.int32()), ("map", pa.list_(pa.float32()))]
)
"""Of the maps as fine as the network has them, row by row."""
_PACKED = {
    "compression": "zstd",
    "use_dictionary": ["path"],
    "use_byte_stream_split": ["map.list.element"],
}
"""Maps take 0.6 of their bytes, and no longer to write than unpacked."""
_MAPS_AT_ONCE = 64


def shard_file(out: Path, number: int, kind: str = SHARDS) -> Path:
    """Where a shard is written."""
    return out / kind / f"{number:06d}.parquet"


@dataclass(kw_only=True)
class Worker:
    """Scores shards with a model of its own, which it loads for the first of them."""

    load: Callable[[], tuple[Model, str]]
    """Gives the model, and where it computes."""
    model: Path
    """Its file or folder."""
    model_digest: str
    out: Path
    """Of the prediction, the same on every machine."""
    batch_size: int
    threads: int
    """That fetch and decode images."""
    maps: bool
    """Write the anomaly maps too."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the command that decide what is read."""

    @cached_property
    def _model(self) -> Model:
        if file_digest(self.model) != self.model_digest:
            raise WrongCheckpoint(f"{self.model} is not the model any more that this was begun with")
        os.environ.update(self.environment)
        return self.load()[0]

    def score(self, number: int, *, careful: bool = False) -> int:
        """Write a shard; how many images it has.

        Args:
            careful: first find the images that end the process which decodes them; they get an error.
        """
        listed = read_shard(self.out, number)
        images = [source(image) for image in listed]
        for place in find_deadly(images, self._model.preprocess) if careful else ():
            images[place] = partial(_refuse, listed[place].path)
        results = self._model.stream(images, batch_size=self.batch_size, workers=self.threads)
        said = zip([image.path for image in listed], results, strict=True)
        rows: list[dict[str, object]] = []
        if self.maps:
            file = shard_file(self.out, number, MAPS)
            atomic_write(file, lambda opened: rows.extend(self._rows(_with_maps(said, opened))))
        else:
            rows.extend(self._rows(said))
        table = pa.Table.from_pylist(rows, _ROWS)
        atomic_write(shard_file(self.out, number), lambda opened: pq.write_table(table, opened))
        return len(rows)

    def _rows(self, said: Iterable[tuple[str, Result]]) -> Iterator[dict[str, object]]:
        promise = self._model.promise
        own = {
            "false_alarm_rate": None if promise is None else promise.false_alarm_rate,
            "model_digest": self.model_digest,
        }
        for address, result in said:
            known = {name: getattr(result, name) for name in COLUMNS if name not in own}
            yield {**known, **own, "path": address}


def _with_maps(said: Iterable[tuple[str, Result]], opened: IO[bytes]) -> Iterator[tuple[str, Result]]:
    """The same results; their maps are in the file when all were taken."""
    waiting: list[dict[str, object]] = []
    with pq.ParquetWriter(opened, _MAPS, **_PACKED) as writer:
        for address, result in said:
            if (found := result.network_map) is not None:
                height, width = found.shape
                values = found.astype(np.float32).ravel()
                waiting.append({"path": address, "height": height, "width": width, "map": values})
            if len(waiting) == _MAPS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(waiting, _MAPS))
                waiting.clear()
            yield address, result
        writer.write_table(pa.Table.from_pylist(waiting, _MAPS))


def find_deadly(images: Sequence[Path | Read], preprocess: Preprocess) -> list[int]:
    """The places of images that end the process which decodes them: it crashes, or memory is not enough."""
    deadly = []
    pool = _process()
    try:
        for place, image in enumerate(images):
            try:
                pool.submit(_try, image, preprocess).result()
            except BrokenProcessPool:
                deadly.append(place)
                pool = _process()
    finally:
        pool.shutdown()
    return deadly


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, get_context("spawn"))


def _try(image: Path | Read, preprocess: Preprocess) -> None:
    decode(image, preprocess)


def _refuse(address: str) -> bytes:
    raise UnreadableImage(f"cannot read the image {address}: the process that decodes it is ended by it")
