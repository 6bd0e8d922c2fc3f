"""How fast a training goes from one reading to the next, and a trace of some of its steps.

Nothing here waits for the device, which may be many steps behind: the clock stops where readings have just
waited for it, and goes on with the next step, so evaluations and saved states do not count.
"""

import gzip
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import torch

from adcommon.io.files import atomic_write

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

TRACED = 20
"""Steps in a trace."""
PASSED_OVER = 5
"""Steps before them: the first ones fill caches and choose kernels, in the last the profiler warms up."""
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
SizedResult = TypeVar("SizedResult", bound=Sized)


class Pace:
    """Images, seconds and waiting of the steps since the last reading."""

    def __init__(self, accelerator: "Accelerator") -> None:
        """Nothing was done yet; the peak of a GPU's memory is counted from here."""
        self._device, self._processes = accelerator.device, accelerator.num_processes
        self._is_read = True
        self.figures: dict[str, float | None] = {}
        """At the last reading, see `read`."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def begin(self) -> None:
        """A step begins; the first one after a reading starts the clock."""
        if self._is_read:
            self._is_read, self._began = False, time.perf_counter()
            self._steps, self._images, self._waited = 0, 0, 0.0
        self._steps += 1

    def wait(
        self, load: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """What `load` returns; its time is time spent waiting for data."""
        began = time.perf_counter()
        result = load(*args, **kwargs)
        self._waited += time.perf_counter() - began
        return result

    def draw(
        self, load: Callable[Parameters, SizedResult], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> SizedResult:
        """As `wait`; the result is this process's share of a batch, whose images are counted."""
        batch = self.wait(load, *args, **kwargs)
        self._images += len(batch)
        return batch

    def read(self) -> None:
        """Take the figures of the steps since the last call; the device has just been waited for.

        `images_per_second` counts those of all processes, whose shares are equal; `step_seconds` and
        `waiting_share`, in [0, 1], are this process's; of `peak_memory_mb` see `peak_memory`.
        """
        seconds = time.perf_counter() - self._began
        self.figures = {
            "images_per_second": self._images * self._processes / seconds,
            "step_seconds": seconds / self._steps,
            "waiting_share": self._waited / seconds,
            "peak_memory_mb": peak_memory(self._device),
        }
        self._is_read = True


def peak_memory(device: torch.device) -> float | None:
    """Megabytes of tensors on a CUDA device at their most; else of this process, None on Windows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "win32":
        return None
    from resource import RUSAGE_SELF, getrusage

    unit = 1 if sys.platform == "darwin" else 1024
    return getrusage(RUSAGE_SELF).ru_maxrss * unit / 1e6


@contextmanager
def traced(path: Path | None) -> Iterator[Callable[[], None]]:
    """Write a trace of `TRACED` steps, or of those that there are, after the first `PASSED_OVER`.

    Steps in it are numbered from 1, the first of this process.

    Args:
        path: a gzipped file in Chrome's format; None: no trace.

    Yields:
        What is called where a step begins.
    """
    if path is None:
        yield lambda: None
        return
    path.unlink(missing_ok=True)
    schedule = torch.profiler.schedule(wait=PASSED_OVER, warmup=1, active=TRACED, repeat=1)
    write = partial(_write_trace, path)
    with torch.profiler.profile(schedule=schedule, on_trace_ready=write, acc_events=True) as profiler:
        yield profiler.step
    if not path.exists():
        logger.warning("--profile wrote no trace: it begins after %d steps, which were not done", PASSED_OVER)


def _write_trace(path: Path, profiler: torch.profiler.profile) -> None:
    with TemporaryDirectory() as folder:
        made = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(made))
        atomic_write(path, gzip.compress(made.read_bytes()))
    logger.info("wrote a trace of the steps after the first %d to %s", PASSED_OVER, path)
    logger.info("to look at it, open that file on https://ui.perfetto.dev, which keeps it in the browser")
