"""Folders of files that are drawn or unpacked once and kept below the cache folder."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from adcommon.errors import OutputFailed


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
