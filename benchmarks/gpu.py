"""Runs the parts of `gpu.sh`, each in a process of its own and within its time, and writes one table of them.

All parts end before `--minutes` are over; a part that fails or takes too long leaves what it had found, and
the rest goes on. While steps are timed in turn, two processes at a time compile the compiled ones.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gpu_parts
import torch
from gpu_notes import Notes
from gpu_parts import ROOT, SUBJECTS, TRAININGS
from gpu_table import table

USUAL_MINUTES = 7.5
METHODS = tuple(SUBJECTS)
SERVER = multiprocessing.get_context("forkserver")
"""Imports everything once, and never touches a GPU."""
ONE, COMPILING, AFTERWARDS = range(3)
"""When a part runs: the first in turn; beside them, two at once; when both are done, in turn."""


@dataclass(frozen=True)
class Part:
    """One process, or several that work together."""

    kind: str
    about: str
    run: Callable[..., None]
    seconds: float
    """Of `USUAL_MINUTES`."""
    when: int = AFTERWARDS
    processes: int = 1
    needs: int = 0
    """GPUs; two processes do without them on a CPU."""

    @property
    def name(self) -> str:
        """In files."""
        return f"{self.kind}-{self.about}"


PARTS = (
    *(Part("steps", method, gpu_parts.train_steps, 36, ONE) for method in METHODS),
    *(Part("compiled", method, gpu_parts.compiled_step, 72, COMPILING, needs=1) for method in METHODS[::-1]),
    *(Part("training", command, gpu_parts.training, 40) for command in TRAININGS),
    Part("scoring", "recontrast", gpu_parts.scoring, 18),
    Part("processes", "recontrast", gpu_parts.data_parallel, 25, processes=2, needs=2),
    Part("tests", "gpu", gpu_parts.gpu_tests, 105, needs=1),
)
"""216 seconds, or what compiling takes, and 228."""


def header(on_gpu: bool) -> dict[str, object]:
    """What the figures are of."""

    def said(*words: str) -> str:
        found = shutil.which(words[0])
        return subprocess.run(words, capture_output=True, text=True, cwd=ROOT).stdout.strip() if found else ""

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": torch.cuda.get_device_name(0) if on_gpu else "CPU: tiny sizes, no figure of a GPU",
        "gpus": torch.cuda.device_count(),
        "driver": said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").partition("\n")[
            0
        ],
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": cores,
        "commit": said("git", "rev-parse", "--short", "HEAD") + ("+" if said("git", "diff", "HEAD") else ""),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def run_part(part: Part, folder: Path, on_gpu: bool, seconds: float, limit: float) -> dict[str, object]:
    """Run a part, which aims at so many seconds, to its end or the limit; collect what it wrote down."""
    device = "GPU" if on_gpu else "CPU"
    found: dict[str, object] = {"kind": part.kind, "about": part.about, "device": device}
    gpus = torch.cuda.device_count()
    if part.needs > gpus and (on_gpu or part.processes == 1):
        reason = f"it needs {part.needs} GPUs and there is one" if on_gpu else "there is no GPU"
        return found | {"status": f"not run: {reason}", "rows": []}
    if seconds < 1:
        return found | {"status": "not run: the time was up", "rows": []}
    notes = Notes(folder, part.name, on_gpu, seconds)
    ranks: Sequence[tuple[int, ...]] = [()]
    if part.processes > 1:
        port = free_port()
        ranks = [(port, rank) for rank in range(part.processes)]
    began = time.monotonic()
    started = [SERVER.Process(target=alone, args=(part.run, notes, part.about, *rank)) for rank in ranks]
    for process in started:
        process.start()
    for process in started:
        process.join(max(0, began + limit - time.monotonic()))
    late = [process for process in started if process.is_alive()]
    for process in late:
        process.kill()
        assert process.pid is not None
        with suppress(ProcessLookupError):  # it had not begun
            os.killpg(process.pid, signal.SIGKILL)  # all that it has started
        process.join()
    status = f"killed after {limit:.0f} s" if late else "done"
    if not late and (failed := [process.exitcode for process in started if process.exitcode]):
        status = f"failed with exit code {failed[0]}"
    rows = folder / f"{part.name}.jsonl"
    lines = rows.read_text().splitlines() if rows.exists() else []
    found |= {"status": status, "seconds": time.monotonic() - began, "rows": [*map(json.loads, lines)]}
    print(f"{time.strftime('%H:%M:%S')} {part.name}: {status}, {found['seconds']:.0f} s", flush=True)
    return found


def alone(run: Callable[..., None], notes: Notes, *about: object) -> None:
    """A part in its own process, and in a group with those that it starts."""
    os.setsid()
    torch.set_num_threads(1 if not notes.on_gpu else max(1, (os.cpu_count() or 1) // 2))
    try:
        run(notes, *about)
    except BaseException:
        notes.tell(error=traceback.format_exc())
        raise


def free_port() -> int:
    """One where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder for gpu.json and gpu.md")
    parser.add_argument("--minutes", type=float, default=USUAL_MINUTES, help="for all parts together")
    kinds = list(dict.fromkeys(part.kind for part in PARTS))
    parser.add_argument("--parts", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="of steps, compiled")
    options = parser.parse_args()
    on_gpu, share = torch.cuda.is_available(), options.minutes / USUAL_MINUTES
    end = time.monotonic() + 60 * options.minutes
    chosen = [
        part
        for part in PARTS
        if part.kind in options.parts and (part.about not in METHODS or part.about in options.methods)
    ]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    SERVER.set_forkserver_preload(["gpu_parts"])
    (importing := SERVER.Process(target=os.getpid)).start()  # when it has ended, all is imported
    result: dict[str, Any] = {"header": header(on_gpu)}
    print("\n".join(f"{name}: {value}" for name, value in result["header"].items()), flush=True)
    importing.join()
    with tempfile.TemporaryDirectory() as folder:

        def run(part: Part) -> dict[str, object]:
            left = end - time.monotonic()
            seconds = min(part.seconds * share, left)
            limit = seconds if on_gpu else left  # on a CPU, where all is tiny, others may want the cores too
            return run_part(part, Path(folder), on_gpu, seconds, limit)

        with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(2) as beside:
            pools = {ONE: first, COMPILING: beside}
            found = [pools[part.when].submit(run, part) for part in chosen if part.when in pools]
        result["parts"] = [each.result() for each in found]
        result["parts"] += [run(part) for part in chosen if part.when == AFTERWARDS]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "gpu.md").write_text(table(result))
    print(table(result))
    print(f"{options.out / 'gpu.json'}, {options.out / 'gpu.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
