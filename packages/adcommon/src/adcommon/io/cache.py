"""What is kept between runs below the cache folder: arrays under a text key, and folders made once.

A cache may lose anything at any time and never fails a run.
"""

import contextlib
import hashlib
import inspect
import logging
import os
import shutil
import struct
import tempfile
import time
import uuid
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from adcommon.errors import OutputFailed

logger = logging.getLogger(__name__)

DEFAULT_LIMIT_BYTES = 20 * 1024**3
"""Room for about 100,000 decoded images of 256x256 pixels."""
MAX_AXES = 6
_MAGIC = b"ADC1"
_PREFIX = struct.Struct("<4sI")  # magic, checksum of the key and of everything that follows
_LAYOUT = struct.Struct(f"<8sB7x{MAX_AXES}Q")  # dtype, number of axes, shape
_HEADER_BYTES = _PREFIX.size + _LAYOUT.size
_TOUCH_AFTER_S = 60  # an entry's time of last use is kept no finer than this, to spare the disk
_STALE_AFTER_S = 3600  # a temporary file this old was left by a process that was killed


class DiskCache:
    """Arrays below a folder, one file per key.

    An entry is written aside and renamed, so parallel processes see a whole entry or none. A damaged
    entry is dropped and counts as missing. When a folder cannot be written (full disk, read-only) the
    cache says so once and stops storing.
    """

    def __init__(self, folder: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        """Nothing is created or read before the first `get` or `put`.

        Args:
            folder: holds the entries and nothing else.
            limit_bytes: above it the least recently used entries are deleted. With several writing
                processes the folder may pass it by a sixteenth per process.
        """
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.writing = True
        self._room = 0  # bytes that may be written before the folder is looked at again

    def __contains__(self, key: str) -> bool:
        """True if there is an entry of this key; it may still turn out to be damaged."""
        return self._path(key).is_file()

    def get(self, key: str) -> np.ndarray | None:
        """The array stored under `key`, read-only, or None."""
        path = self._path(key)
        try:
            entry = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._stop_writing(error)
            return None
        array = _unpack(key, entry)
        if array is None:
            logger.warning("damaged cache entry dropped file=%s bytes=%d", path, len(entry))
            with contextlib.suppress(OSError):  # a read-only cache keeps it, and it stays a miss
                path.unlink()
            return None
        with contextlib.suppress(OSError):  # the time of last use is a hint, also where it cannot be kept
            if time.time() - path.stat().st_mtime > _TOUCH_AFTER_S:
                os.utime(path)
        return array

    def put(self, key: str, array: np.ndarray) -> None:
        """Store a numeric or boolean array of at most six axes; an entry of this key is replaced."""
        entry_bytes = _HEADER_BYTES + array.nbytes
        if not self.writing or entry_bytes > self.limit_bytes:
            return
        header = _pack_header(key, array := np.asarray(array, order="C"))
        path = self._path(key)
        temporary = path.with_name(f"{uuid.uuid4().hex}.tmp")
        try:
            if self._room < entry_bytes:
                self._make_room(entry_bytes)
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                file.write(header)
                file.write(array.data)
            self._replace(temporary, path)
            self._room -= entry_bytes
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            self._stop_writing(error)

    def _path(self, key: str) -> Path:
        name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.bin"

    def _replace(self, temporary: Path, path: Path) -> None:
        try:
            temporary.replace(path)
        except PermissionError:
            # Windows refuses while another process reads the old entry, which holds the same array.
            if not path.exists():
                raise
            temporary.unlink()

    def _make_room(self, entry_bytes: int) -> None:
        """Delete what was not used for longest until a tenth of the limit is free, if the limit is near."""
        entries = []
        for shard in self.folder.glob("*/"):
            for path in shard.iterdir():
                with contextlib.suppress(FileNotFoundError):  # another process made room at the same time
                    status = path.stat()
                    entries.append((status.st_mtime, status.st_size, path))
        stored = sum(size for _, size, _ in entries)
        if stored + entry_bytes > self.limit_bytes:
            target = self.limit_bytes - max(entry_bytes, self.limit_bytes // 10)
            logger.info("cache is full, dropping old entries folder=%s bytes=%d", self.folder, stored)
            stored -= self._evict(sorted(entries), stored - target)
        self._room = max(entry_bytes, min(self.limit_bytes - stored, self.limit_bytes // 16))

    def _evict(self, entries: list[tuple[float, int, Path]], wanted_bytes: int) -> int:
        """Delete entries in the given order until `wanted_bytes` are free; how many bytes became free."""
        freed = 0
        for used, size, path in entries:
            if freed >= wanted_bytes:
                break
            if path.suffix == ".tmp" and time.time() - used < _STALE_AFTER_S:
                continue
            with contextlib.suppress(PermissionError):  # Windows: being read just now
                path.unlink(missing_ok=True)
                freed += size
        return freed

    def _stop_writing(self, error: OSError) -> None:
        if self.writing:
            logger.warning("cache switched off folder=%s reason=%s", self.folder, error)
        self.writing = False


def default_cache(name: str, enabled: bool = True) -> DiskCache | None:
    """The cache called `name` below $AD_CACHE, else below ~/.cache/adcommon; None if not `enabled`."""
    if not enabled:
        return None
    try:
        return DiskCache(cache_folder() / name)
    except RuntimeError as error:  # there is no home folder
        logger.warning("cache switched off folder=~/.cache/adcommon reason=%s", error)
        return None


@cache
def code_digest(*modules: ModuleType) -> str:
    """Text that changes with the code of modules; a part of the keys of what they compute."""
    code = "".join(inspect.getsource(module) for module in modules)
    return hashlib.blake2b(code.encode(), digest_size=8).hexdigest()


def _pack_header(key: str, array: np.ndarray) -> bytes:
    if array.dtype.kind not in "biuf" or array.ndim > MAX_AXES:
        raise ValueError(f"cannot cache an array of dtype {array.dtype} and {array.ndim} axes")
    shape = array.shape + (0,) * (MAX_AXES - array.ndim)
    layout = _LAYOUT.pack(array.dtype.str.encode(), array.ndim, *shape)
    return _PREFIX.pack(_MAGIC, _checksum(key, layout, array.data)) + layout


def _unpack(key: str, entry: bytes) -> np.ndarray | None:
    """The array of an entry, or None if any byte of it is not as it was written."""
    if len(entry) < _HEADER_BYTES:
        return None
    magic, checksum = _PREFIX.unpack_from(entry)
    layout, payload = entry[_PREFIX.size : _HEADER_BYTES], memoryview(entry)[_HEADER_BYTES:]
    if magic != _MAGIC or checksum != _checksum(key, layout, payload):
        return None
    dtype, axes, *shape = _LAYOUT.unpack(layout)
    return np.frombuffer(payload, np.dtype(dtype.rstrip(b"\0").decode())).reshape(shape[:axes])


def _checksum(key: str, layout: bytes, payload: memoryview) -> int:
    """CRC-32: 0.05 ms for 256x256x3 bytes, a quarter of what a cryptographic hash takes."""
    return zlib.crc32(payload, zlib.crc32(layout, zlib.crc32(key.encode())))


def cache_folder() -> Path:
    """Where this package keeps files between runs: $AD_CACHE, else ~/.cache/adcommon."""
    return Path(os.environ.get("AD_CACHE") or "~/.cache/adcommon").expanduser()


def made_once(folder: Path, make: Callable[[Path], object], what: str) -> Path:
    """`folder`, filled by `make` unless it is there.

    It appears complete or not at all, also when several processes make it at the same time.

    Args:
        folder: its content must depend on its name alone: a folder that exists is taken as it is.
        make: fills the empty folder that it is given.
        what: is made, for the message.

    Raises:
        OutputFailed: the cache folder cannot be written.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}-", dir=folder.parent))
        try:
            make(unfinished)
            unfinished.chmod(0o755)
            if not folder.is_dir():
                unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        if not folder.is_dir():  # else another process was faster
            raise OutputFailed(
                f"cannot write {what} into the cache: {error}\n  Set AD_CACHE to another folder."
            ) from None
    return folder
