"""What a preparer says it will make, file by file; `build` makes it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from adcommon.io.files import json_text


@runtime_checkable
class Preparer(Protocol):
    """A dataclass whose fields are the options of `ad prepare NAME`, each with its help text as docstring."""

    def plan(self, source: Path, target: Path, /) -> "Plan":
        """List what is to be made in `target` from the raw download `source`, without writing anything."""


@dataclass(frozen=True, slots=True)
class Step:
    """One file to be made."""

    target: str
    """Where, below the plan's folder, with `/`."""
    source: Path
    write: Callable[[Path, Path], None] | None = None
    """Makes the target (second) from the source (first); None: the same bytes."""


@dataclass(frozen=True)
class Plan:
    """Everything a preparer will do."""

    dataset: str
    source: Path
    """The raw download."""
    folder: Path
    """The prepared tree."""
    steps: list[Step]
    options: Mapping[str, object] = field(default_factory=dict)
    """What was chosen; goes into the manifest."""
    notes: tuple[str, ...] = ()
    """What a reader of the tree should know; goes into the manifest."""
    archives: Mapping[str, str] = field(default_factory=dict)
    """Names and SHA-256 of the archives that the raw download was unpacked from."""

    def counts(self) -> dict[str, int]:
        """Number of files for each folder of the tree."""
        return dict(sorted(Counter(step.target.rpartition("/")[0] for step in self.steps).items()))

    def summary(self) -> str:
        """The tree and its counts in lines of text; what a dry run prints."""
        lines = [f"{self.folder}: {len(self.steps)} files from {self.source}"]
        lines += [f"  {folder}: {count}" for folder, count in self.counts().items()]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def manifest(self) -> dict[str, object]:
        """What `manifest.json` says."""
        origin = {"archives": self.archives} if self.archives else {"source": self.source.resolve()}
        return {
            "dataset": self.dataset,
            **origin,
            "options": dict(self.options),
            "notes": list(self.notes),
            "counts": self.counts(),
        }

    def fingerprint(self) -> str:
        """Digest of everything that decides what is written."""
        files = [[step.target, str(step.source.absolute())] for step in self.steps]
        return hashlib.sha256(json_text({"plan": self.manifest(), "files": files}).encode()).hexdigest()
