"""What decoded pixels depend on: the content of a file, and the code that reads it; no torch here."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import PIL

import adcommon.data.kind
import adcommon.data.preprocess
import adcommon.data.tiling
import adcommon.io.decoding
import adcommon.io.headers
import adcommon.io.images
from adcommon.errors import UnreadableImage
from adcommon.io.cache import code_digest
from adcommon.types.records import Record

_digests: dict[Path, tuple[int, int, str]] = {}


def content_digest(path: Path) -> str:
    """Hash of a file, or of the parts of a mask; a file of known size and date is read once per process."""
    if path.is_dir():
        return " ".join(content_digest(part) for part in adcommon.io.images.list_images(path))
    try:
        status = path.stat()
        size, modified_ns, digest = _digests.get(path, (-1, -1, ""))
        if (size, modified_ns) != (status.st_size, status.st_mtime_ns):
            # Where processors have instructions for it, SHA-256 takes 0.8 ms per megabyte, BLAKE2 twice that.
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            _digests[path] = (status.st_size, status.st_mtime_ns, digest)
        return digest
    except OSError as error:
        raise UnreadableImage(f"cannot read the image {path}: {error.strerror}") from error


def data_digest(records: Sequence[Record]) -> str:
    """Twelve letters that are equal for equal images, masks and labels, wherever these lie, in any order."""
    parts = sorted(
        f"{record.label} {content_digest(record.image)} {record.mask and content_digest(record.mask)}"
        for record in records
    )
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=6).hexdigest()


def code_version() -> str:
    """Changes with the code and the library that make pixels of a file."""
    io = adcommon.io
    data = adcommon.data
    code = code_digest(io.decoding, io.headers, io.images, data.kind, data.preprocess, data.tiling)
    return f"{code} pillow {PIL.__version__}"
