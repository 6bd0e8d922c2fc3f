"""One process at a time writes a folder of results."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from adcommon.errors import OutputExists
from adcommon.io.files import LOCK, output_errors


@contextmanager
def locked(folder: Path, file: str = "") -> Iterator[None]:
    """Keep other processes out of a folder during the block; it is made if it is not there.

    The system gives the lock back when its process ends, however that ends. A folder that was made here and
    is still empty at the end of the block is removed again.

    Args:
        file: keep them out of the file of this name alone.

    Raises:
        OutputExists: another process writes there; the message names its number.
        OutputFailed: the place cannot be written.
    """
    folder = folder.resolve()
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    place = folder / file if file else folder
    own = folder / (f"{LOCK}.{file}" if file else LOCK)
    holder = own.with_name(f"{own.name}.pid")
    try:
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(own, is_singleton=False)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise OutputExists(
                    f"{place} is being written by another process{_number(holder)}; wait for it, stop it, "
                    f"or choose another {'file' if file else '--out'}"
                ) from None
            holder.write_text(str(os.getpid()))
        try:
            yield
        finally:
            holder.unlink(missing_ok=True)
            with suppress(OSError):  # Windows deletes no open file; the empty one that stays locks nothing
                own.unlink()
            lock.release()
    finally:
        for parent in made:
            with suppress(OSError):  # not empty, as it should be
                parent.rmdir()


def in_use(folder: Path) -> bool:
    """True if a process writes there now, under `locked`."""
    if not (folder / LOCK).exists():
        return False
    lock = FileLock(folder / LOCK, is_singleton=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def _number(holder: Path) -> str:
    """Of the process, as far as it is known."""
    try:
        return f", number {int(holder.read_text(encoding='utf-8'))}"
    except (OSError, ValueError):
        return ""
