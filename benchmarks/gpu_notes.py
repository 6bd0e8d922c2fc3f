"""What a part of `gpu.sh` knows of its place, and where it writes down what it finds."""

import fcntl
import gc
import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Notes:
    """Where a part computes, how long it may, and where it writes rows."""

    folder: Path
    name: str
    on_gpu: bool
    seconds: float
    """After these the process is killed."""

    @property
    def device(self) -> torch.device:
        """The first GPU, else the CPU."""
        return torch.device("cuda", 0) if self.on_gpu else torch.device("cpu")

    @property
    def slice(self) -> float:
        """Seconds for one figure, of the 25 that a part has at most."""
        return self.seconds / 25 if self.on_gpu else 0.1

    def tell(self, **row: object) -> None:
        """Write a row."""
        with (self.folder / f"{self.name}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    @contextmanager
    def row(self, **known: object) -> Iterator[dict[str, object]]:
        """Write a row of what is known and what the block adds; of what fails, its traceback instead."""
        found: dict[str, object] = {}
        try:
            yield found
        except Exception:
            found = {"error": traceback.format_exc()}
        self.tell(**known, **found)
        gc.collect()
        torch.cuda.empty_cache()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Nothing else is timed meanwhile: two parts may run at once, one of which compiles."""
        with (self.folder / "turn").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
