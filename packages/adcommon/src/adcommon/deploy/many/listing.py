"""Which images there are: in a folder, in an object store, in a table of addresses. None of them is read.

The list is written down, a row group for each shard, so that a shard is always the same images.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from adcommon.deploy.inputs import Read, list_inputs
from adcommon.errors import BadValue, EmptySplit, UnreadableImage, UserError
from adcommon.io.decoding import FORMATS
from adcommon.io.files import atomic_write
from adcommon.io.listing import is_junk
from adcommon.io.text import printable

LISTING = "listing.parquet"
_SCHEMA = pa.schema([("path", pa.string())])
_AT_ONCE = 100_000


def identity(images: str) -> dict[str, str | None]:
    """What tells an address from another: itself, and of a table what it holds.

    Raises:
        BadValue: it cannot be reached.
    """
    with _explained(images):
        here, digest = local(images), None
        if images.endswith(".parquet"):
            with fsspec.open(images, "rb") as opened:
                digest = hashlib.file_digest(opened, "blake2b").hexdigest()
        return {"images": images if here is None else str(here), "images_digest": digest}


def write_listing(images: str, out: Path, shard: int) -> None:
    """Write `out`/listing.parquet: every image at an address, in shards.

    Args:
        images: a folder here or anywhere that fsspec reaches (s3://bucket/photos), or a Parquet file there
            whose column `path` has addresses of images; relative ones begin at its own folder.
        shard: how many images one has.

    Raises:
        BadValue: nothing is there, or it cannot be reached.
        EmptySplit: no images are there.
    """

    def write(file: object) -> None:
        addresses = iter(_table(images) if images.endswith(".parquet") else _tree(images, out))
        count = 0
        with pq.ParquetWriter(file, _SCHEMA) as writer:
            while part := list(islice(addresses, shard)):
                try:
                    writer.write_table(pa.table({"path": part}, _SCHEMA), row_group_size=shard)
                except UnicodeEncodeError as error:
                    name = printable(str(error.object))
                    raise BadValue(f"{name}: its name is not UTF-8, as Parquet's are; rename it") from None
                count += len(part)
        if not count:
            raise EmptySplit(f"no images in {images}; expected files such as part.png or part.jpg")

    with _explained(images):
        atomic_write(out / LISTING, write)


def count_shards(out: Path) -> tuple[int, int]:
    """Shards and images of a stored list."""
    about = pq.read_metadata(out / LISTING)
    return about.num_row_groups, about.num_rows


def read_shard(out: Path, number: int) -> list[str]:
    """The addresses of a shard's images."""
    with pq.ParquetFile(out / LISTING) as file:
        addresses: list[str] = file.read_row_group(number)["path"].to_pylist()
    return addresses


def source(address: str) -> Path | Read:
    """An image for a model: its file, or what fetches it."""
    path = local(address)
    return partial(_fetch, address) if path is None else path


def local(address: str) -> Path | None:
    """The file or folder of this machine that is meant, whole; None: it lies elsewhere."""
    store, path = fsspec.url_to_fs(address)
    return Path(path) if isinstance(store, LocalFileSystem) else None


def _fetch(address: str) -> bytes:
    """What a file of a store holds.

    Raises:
        UnreadableImage: it is not there, or not to be read; all other errors are the store's, and pass.
    """
    try:
        store, path = fsspec.url_to_fs(address)
        content: bytes = store.cat_file(path)
        return content
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UnreadableImage(f"cannot read the image {address}: {type(error).__name__}") from error
    except OSError as error:  # would be taken for a damaged image
        raise RuntimeError(f"cannot fetch {address}: {error}") from error


def _table(images: str) -> Iterator[str]:
    here = local(images)
    folder = images.rpartition("/")[0] if here is None else here.parent
    with fsspec.open(images, "rb") as opened, pq.ParquetFile(opened) as file:
        if "path" not in file.schema_arrow.names:
            raise BadValue(f"{images} has the columns {', '.join(file.schema_arrow.names)}; expected path")
        for batch in file.iter_batches(_AT_ONCE, columns=["path"]):
            for address in batch["path"].cast(pa.string()).to_pylist():
                if not address:
                    raise BadValue(f"{images} has a row without a path; remove it")
                is_whole = "://" in address or Path(address).is_absolute()
                yield address if is_whole else f"{folder}/{address}"


def _tree(images: str, out: Path) -> Iterable[str]:
    here = local(images)
    if here is not None:
        return map(str, list_inputs(here, out).images)
    store, root = fsspec.url_to_fs(images)
    return (
        store.unstrip_protocol(path)
        for path in sorted(store.find(root))
        if PurePosixPath(path).suffix.lower() in FORMATS
        and not any(map(is_junk, path.removeprefix(root).split("/")))
    )


@contextmanager
def _explained(images: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the packages of stores raise anything
        raise BadValue(f"cannot list {images}: {type(error).__name__}: {error}") from error
