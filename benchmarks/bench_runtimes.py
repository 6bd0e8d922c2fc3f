"""What computes a model fastest: torch, torch compiled, onnxruntime or OpenVINO; one thread, small recipes.

Every runtime has a process of its own, and they are asked in turn, so that all meet the same load; the times
are those of the CPU. Models are trained for a few steps, because their time does not depend on what they have
learned. What `--work` holds is used again.

Run: uv run python benchmarks/bench_runtimes.py --work bench_runtimes --seconds 5
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np

from adcommon.deploy.fastest import smooth_pixels

REFERENCES = ("inctrl", "resad")
TRAININGS = {
    "recontrast": "--recipe quickstart --iterations 2 --calibration-share 0 --data {data}",
    "uniad": "--recipe quickstart --epochs 1 --calibration-share 0 --data {data}",
    "realnet": "--recipe quickstart --iterations 2 --afs-batches 1 --anomaly-source textures "
    "--calibration-share 0 --data {data}",
    "inctrl": "--recipe quickstart --shots 4 --epochs 1 --steps-per-epoch 1 --dataset synthetic "
    "--data {data}",
    "resad": "--recipe quickstart --shots 4 --epochs 1 --setting synthetic_to_folder --data {data}",
    "padim": "--recipe small --data {data}",
    "patchcore": "--recipe small --data {data}",
}
RUNTIMES = ("torch", "torch compiled", "onnxruntime", "openvino")
EXTRAS = {"torch": "train", "onnxruntime": "onnx", "openvino": "openvino"}
BATCHES = (1, 16)


def prepare(work: Path, name: str) -> None:
    """Train the model and export it, where that is not done yet."""
    import adcommon as ad
    from adcommon.testing.trees import make_folder

    data = work / "data"
    if not data.exists():
        make_folder(data, good=12, defects=("scratch",))
        make_folder(work / "references", good=4)
    if not (work / name).exists():
        flags = TRAININGS[name].format(data=data).split()
        command = [f"{name}-train", *flags, "--out", str(work / name)]
        subprocess.run(command, check=True, capture_output=True)
    if not (file := work / f"{name}.onnx").exists():
        model = ad.load(folder_of(work, name), references=references_of(work, name), device="cpu")
        ad.export(model, file)


def folder_of(work: Path, name: str) -> Path:
    (folder,) = (work / name).rglob("model")
    return folder


def references_of(work: Path, name: str) -> Path | None:
    return work / "references" if name in REFERENCES else None


def computer(work: Path, name: str, runtime: str, batch: int) -> tuple[Callable[[np.ndarray], object], int]:
    """What scores pixels, and their side."""
    import adcommon as ad

    if runtime in ("onnxruntime", "openvino"):
        model = ad.load(work / f"{name}.onnx", runtime=runtime, threads=1)
        return model.score_pixels, model.preprocess.size
    import torch

    from adcommon.deploy.load import from_detector

    torch.set_num_threads(1)
    model = ad.load(folder_of(work, name), references=references_of(work, name), device="cpu")
    if runtime == "torch compiled":

        class Compiled:
            preprocess = model.preprocess
            score = staticmethod(torch.compile(model.detector.score))

        model = from_detector(Compiled(), {**model.config, "threshold": None})
    return model.score_pixels, model.preprocess.size


def answer(work: Path, name: str, runtime: str, batch: int) -> None:
    """For each line on stdin, seconds: compute for so long; print the seconds of each call and memory."""
    compute, size = computer(work, name, runtime, batch)
    pixels = smooth_pixels(batch, size)
    for _ in range(2):
        compute(pixels)
    print("ready", flush=True)
    for line in sys.stdin:
        calls: list[float] = []
        end = time.perf_counter() + float(line)
        while not calls or time.perf_counter() < end:
            began = time.process_time()
            compute(pixels)
            calls.append(time.process_time() - began)
        print(json.dumps([calls, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]), flush=True)


def measure(work: Path, name: str, runtimes: list[str], batch: int, seconds: float) -> Iterator[list[str]]:
    """A row for each runtime: the processes compute in turn, a tenth of the time each."""
    processes = {}
    for runtime in runtimes:
        command = [sys.executable, __file__, "--work", str(work), "--answer", name, runtime, str(batch)]
        processes[runtime] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        processes[runtime].stdout.readline()  # one starts after the other
    calls: dict[str, list[float]] = {runtime: [] for runtime in runtimes}
    memory = dict.fromkeys(runtimes, 0)
    for _ in range(10):
        for runtime, process in processes.items():
            if process.poll() is None:
                process.stdin.write(f"{seconds / 10}\n")
                process.stdin.flush()
                some, memory[runtime] = json.loads(process.stdout.readline())
                calls[runtime] += some
    for runtime, process in processes.items():
        process.communicate()
        if not calls[runtime]:
            yield [name, str(batch), runtime, "cannot", "", "", ""]
            continue
        half, most = 1000 * np.quantile(calls[runtime], [0.5, 0.99])
        rate = 1000 * batch / half
        yield [
            name,
            str(batch),
            runtime,
            f"{rate:.0f}",
            f"{half:.1f}",
            f"{most:.1f}",
            f"{memory[runtime] / 1024:.0f}",
        ]


def megabytes(extra: str) -> float:
    """Of the files of adcommon with an extra, and of all that this needs."""
    from packaging.requirements import Requirement

    waiting, seen, total = [("adcommon", (extra, ""))], set(), 0
    while waiting:
        name, extras = waiting.pop()
        try:
            package = distribution(name)
        except PackageNotFoundError:  # not for this system
            continue
        if name not in seen:
            files = [Path(str(file.locate())) for file in package.files or ()]
            total += sum(file.stat().st_size for file in files if file.exists())
        seen.add(name)
        for line in package.requires or ():
            need = Requirement(line)
            wanted = need.marker is None or any(need.marker.evaluate({"extra": one}) for one in extras)
            if wanted and need.name not in seen:
                waiting.append((need.name, (*need.extras, "")))
    return total / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("bench_runtimes"), help="models, kept")
    parser.add_argument("--methods", nargs="*", default=list(TRAININGS))
    parser.add_argument("--runtimes", nargs="*", default=list(RUNTIMES))
    parser.add_argument("--seconds", type=float, default=5, help="for each row")
    parser.add_argument("--prepare", help=argparse.SUPPRESS)  # what a new process is to do
    parser.add_argument("--answer", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if options.answer:
        name, runtime, batch = options.answer
        answer(options.work, name, runtime, int(batch))
        return
    options.work.mkdir(exist_ok=True)
    if options.prepare:
        prepare(options.work, options.prepare)
        return
    print("| method | batch | runtime | images/s | p50, ms | p99, ms | memory, MB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in options.methods:
        # Not here: a process begins with the memory of the one that started it.
        command = [sys.executable, __file__, "--work", str(options.work), "--prepare", name]
        subprocess.run(command, check=True, capture_output=True)
        for batch in BATCHES:
            for row in measure(options.work, name, options.runtimes, batch, options.seconds):
                print(f"| {' | '.join(row)} |", flush=True)
    print("\npackages:", ", ".join(f"{name} {megabytes(extra):.0f} MB" for name, extra in EXTRAS.items()))


if __name__ == "__main__":
    main()
