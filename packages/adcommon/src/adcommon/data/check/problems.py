"""What `ad check` reports: one thing that is not as it should be, with every file concerned."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "note"]

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it should be."""

    severity: Severity
    """error: loading or measuring fails; warning: numbers may mislead; note: without effect."""
    category: str
    message: str
    paths: tuple[Path, ...] = ()
    """Every file concerned."""
    details: tuple[str, ...] = ()
    """What is said of each file, where there is more to say than its path."""

    def __str__(self) -> str:
        """One line, or a few: "error: bottle: 2 masks ..." with the first of the files."""
        lines = self.details or tuple(str(path) for path in self.paths)
        shown = "".join(f"\n    {line}" for line in lines[:_SHOWN])
        more = f"\n    and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        return f"{self.severity}: {self.category}: {self.message}{shown}{more}"
