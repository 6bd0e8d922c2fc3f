"""Which files of a watched folder are new, whole and to be read now."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from adcommon.deploy.watch.log import Entry
from adcommon.io.listing import UNREADABLE, Listing, list_tree
from adcommon.io.text import printable

SETTLED, PATIENCE = 2, 10
"""Looks at which a file must be the same to be read, and to be called unreadable."""


class Known(NamedTuple):
    """The image that lay at a path when a line of the log was written."""

    signature: tuple[int, int]
    digest: str | None
    place: str
    """See `Entry.place`."""

    @classmethod
    def of(cls, entry: Entry) -> "Known":
        """What a line says."""
        return cls((entry.size, entry.modified_ns), entry.digest, sys.intern(entry.place))


@dataclass(slots=True)
class Waiting:
    """A file that has no line."""

    signature: tuple[int, int]
    looks: int = 1
    """At which it was the same."""


@dataclass
class Arrivals:
    """What lies in a folder, at any depth, and what is known of it."""

    folder: Path
    without: Sequence[Path]
    """Folders in it that are not looked into."""
    known: dict[str, Known]
    """By `Entry.path`."""
    waiting: dict[Path, Waiting] = field(default_factory=dict)
    is_gone: bool = False
    """The folder could not be looked into last time."""

    def look(self) -> tuple[list[Path], list[tuple[Path, Known]]]:
        """The files that are to be read now, oldest first, and those that have a line."""
        before, self.waiting = self.waiting, {}
        judged = []
        for path in self._listed():
            if (own := signature(path)) is None:
                continue
            known = self.known.get(printable(path))
            if known is not None and known.signature == own:
                judged.append((path, known))
                continue
            file = before.get(path)
            if file is None or file.signature != own:
                file = Waiting(own)
            else:
                file.looks += 1
                if file.looks == SETTLED and known is not None and known.digest == digest(path):
                    self.known[printable(path)] = known._replace(signature=own)  # touched, or copied again
                    continue
            self.waiting[path] = file
        ready = [path for path, file in self.waiting.items() if file.looks in (SETTLED, PATIENCE)]
        return sorted(ready, key=lambda path: self.waiting[path].signature[1]), judged

    def _listed(self) -> list[Path]:
        try:
            listing = list_tree(self.folder, without=self.without)
            self.is_gone = self.folder in listing.passed_over.get(UNREADABLE, ())
        except OSError:  # a share that does not answer
            listing, self.is_gone = Listing(), True
        return listing.images


def signature(path: Path) -> tuple[int, int] | None:
    """Bytes of a file, and its time in nanoseconds; None: it is gone."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns


def digest(path: Path) -> str | None:
    """Of the content of a file, see `Entry.digest`; None: it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return None
