"""What preparers ask of a raw download: is this file there, which are missing, what is in this mask."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from adcommon.errors import DatasetNotFound
from adcommon.images import open_mask

_SHOWN = 5


def write_mask(source: Path, target: Path) -> None:
    """Rewrite a mask as an 8-bit PNG of one channel: 0 normal, 255 anomalous."""
    Image.fromarray(open_mask(source).astype(np.uint8) * 255).save(target, format="PNG")


class Listing:
    """Looks files up whatever the case of their letters, reading each folder once."""

    def __init__(self, root: Path) -> None:
        """Paths are looked up below `root`."""
        self.root = root
        self.respelled: list[Path] = []
        """Files found under another spelling than asked for."""
        self.missing: list[Path] = []
        """Files asked for that are not there."""
        self._folders: dict[Path, dict[str, Path]] = {}

    def find(self, relative: str) -> Path | None:
        """The file, or None, which `missing` remembers."""
        wanted = self.root / relative
        if wanted.parent not in self._folders:
            entries = wanted.parent.iterdir() if wanted.parent.is_dir() else ()
            self._folders[wanted.parent] = {entry.name.casefold(): entry for entry in entries}
        found = self._folders[wanted.parent].get(wanted.name.casefold())
        if found is None:
            self.missing.append(wanted)
        elif found.name != wanted.name:
            self.respelled.append(found)
        return found


def refuse_missing(missing: list[Path], total: int, advice: str) -> None:
    """One error for all files of a download that are not there."""
    if missing:
        raise DatasetNotFound(f"{len(missing)} of {total} files are missing: {shorten(missing)}\n  {advice}")


def shorten(entries: Iterable[object]) -> str:
    """The first few entries, separated by commas."""
    texts = [str(entry) for entry in entries]
    return ", ".join(texts[:_SHOWN]) + (", ..." if len(texts) > _SHOWN else "")
