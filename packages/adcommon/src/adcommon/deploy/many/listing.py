"""Which images there are: in a folder, a store, tar files, a table of addresses. None of them is read.

The list is written down, a row group for each shard, so that a shard is always the same images.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

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
_SCHEMA = pa.schema([("path", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
_AT_ONCE = 100_000
_IN_TAR = "::"


class Listed(NamedTuple):
    """An image."""

    path: str
    """Its address; in a tar file ADDRESS::NAME."""
    offset: int | None = None
    """Where it begins in the tar file, bytes; None: it is a file of its own."""
    size: int = 0
    """Bytes that it has there."""


def identity(images: str) -> dict[str, str | None]:
    """What tells what is listed from other images: the address, and of a table what it holds.

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
        images: a folder here or anywhere that fsspec reaches (s3://bucket/photos), tar files there
            (s3://bucket/*.tar, as webdataset has them), or a Parquet file there whose column `path` has
            addresses of images; relative ones begin at its own folder.
        shard: how many images one has.

    Raises:
        BadValue: nothing is there, or it cannot be reached.
        EmptySplit: no images are there.
    """

    def write(file: object) -> None:
        count, found = 0, _listed(images, out)
        with pq.ParquetWriter(file, _SCHEMA) as writer:
            while part := list(islice(found, shard)):
                try:
                    table = pa.Table.from_pylist([one._asdict() for one in part], _SCHEMA)
                except UnicodeEncodeError as error:
                    name = printable(str(error.object))
                    raise BadValue(f"{name}: its name is not UTF-8, as Parquet's are; rename it") from None
                writer.write_table(table, row_group_size=shard)
                count += len(part)
        if not count:
            raise EmptySplit(f"no images in {images}; expected files such as part.png or part.jpg")

    with _explained(images):
        atomic_write(out / LISTING, write)


def count_shards(out: Path) -> tuple[int, int]:
    """Shards and images of a stored list."""
    about = pq.read_metadata(out / LISTING)
    return about.num_row_groups, about.num_rows


def read_shard(out: Path, number: int) -> list[Listed]:
    """The images of a shard."""
    with pq.ParquetFile(out / LISTING) as file:
        return [Listed(**row) for row in file.read_row_group(number).to_pylist()]


def source(image: Listed) -> Path | Read:
    """An image for a model: its file, or what fetches it."""
    if image.offset is None and (path := local(image.path)) is not None:
        return path
    return partial(_fetch, image)


def local(address: str) -> Path | None:
    """The file or folder of this machine that is meant, whole; None: it lies elsewhere."""
    store, path = fsspec.url_to_fs(address)
    return Path(path) if isinstance(store, LocalFileSystem) else None


def _fetch(image: Listed) -> bytes:
    """What the image's file holds.

    Raises:
        UnreadableImage: it is not there, or not to be read; all other errors are the store's, and pass.
    """
    try:
        address, end = image.path, None
        if image.offset is not None:
            address, end = image.path.partition(_IN_TAR)[0], image.offset + image.size
        store, path = fsspec.url_to_fs(address)
        content: bytes = store.cat_file(path, image.offset, end)
        return content
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UnreadableImage(f"cannot read the image {image.path}: {type(error).__name__}") from error
    except OSError as error:  # would be taken for a damaged image
        raise RuntimeError(f"cannot fetch {image.path}: {error}") from error


def _listed(images: str, out: Path) -> Iterator[Listed]:
    if images.endswith(".parquet"):
        return map(Listed, _in_table(images))
    if images.endswith(".tar"):
        return _in_tars(images)
    here = local(images)
    return map(Listed, _in_store(images) if here is None else map(str, list_inputs(here, out).images))


def _in_table(images: str) -> Iterator[str]:
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


def _in_tars(images: str) -> Iterator[Listed]:
    store, pattern = fsspec.url_to_fs(images)
    for path in sorted(store.glob(pattern)):
        with store.open(path) as opened, tarfile.open(fileobj=opened, mode="r:") as archive:
            for member in archive:
                if member.isfile() and _is_image(member.name):
                    address = f"{store.unstrip_protocol(path)}{_IN_TAR}{member.name}"
                    yield Listed(address, member.offset_data, member.size)


def _in_store(images: str) -> Iterator[str]:
    store, root = fsspec.url_to_fs(images)
    return (
        store.unstrip_protocol(path)
        for path in sorted(store.find(root))
        if _is_image(path.removeprefix(root))
    )


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in FORMATS and not any(map(is_junk, name.split("/")))


@contextmanager
def _explained(images: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the packages of stores raise anything
        raise BadValue(f"cannot list {images}: {type(error).__name__}: {error}") from error
