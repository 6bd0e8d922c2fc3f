"""The parts of `gpu.sh`. Each runs in a process of its own, and writes down what it finds as it finds it."""

import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import bench_metrics
import bench_uniad
import numpy as np
import steps
import steps_few_shot
import torch
from accelerate import Accelerator
from gpu_notes import Notes

from adcommon.testing.commands import call, read_table
from adcommon.training.devices import set_seed, start
from adcommon.types.arithmetic import Arithmetic, Precision

SUBJECTS = {**steps.SUBJECTS, **steps_few_shot.SUBJECTS}
ROOT = Path(__file__).parents[1]
BATCHES = (1, 32)
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
TRAININGS = {
    "recontrast-train": "--iterations 100 --precision bf16",
    "realnet-train": "--iterations 40 --precision bf16 --anomaly-source textures --afs-batches 4",
}
"""On a folder of drawn images, with the networks and the sizes of the papers."""
TINY = {
    "recontrast-train": "--backbone resnet18 --image-size 64 --batch-size 2 --iterations 4",
    "realnet-train": "--recipe quickstart --dataset folder --image-size 64 --batch-size 2 --iterations 4 "
    "--anomaly-source textures --afs-batches 1",
}


def prepared(notes: Notes, method: str) -> steps.Subject:
    """A method on the device, always the same."""
    set_seed(0)
    with notes.device:
        return SUBJECTS[method](notes.device, not notes.on_gpu)


def precise(notes: Notes, precision: Precision | Literal["torch"]) -> Accelerator:
    """The product's accelerator of a precision; `torch` is torch's own default: TF32 in cuDNN alone."""
    asked: Precision = "fp32" if precision == "torch" else precision
    accelerator = start(notes.device, Arithmetic(precision=asked, deterministic=False))
    if precision == "torch":
        torch.backends.cudnn.allow_tf32 = True
    return accelerator


def timed(notes: Notes, make: Callable[[], steps.Step], seconds: float, least: int = 3) -> dict[str, object]:
    """Median seconds of a step after two to warm up, its first loss, and the most memory of tensors.

    At least so many steps, and about so many seconds. On a GPU CUDA's own events are read, once all steps are
    done: Python runs ahead as in a training.
    """
    if notes.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    step = make()
    first = float(step())

    def wait() -> float:
        if notes.on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    with notes.turn():
        began = wait()
        step()
        count = int(min(max(seconds / (wait() - began), least), 100))
        marks: list[Any] = []  # CUDA's events, or seconds
        for number in range(count + 1):
            if notes.on_gpu:
                marks.append(torch.cuda.Event(enable_timing=True))
                marks[-1].record()
            else:
                marks.append(time.perf_counter())
            if number < count:
                step()
        wait()
    times = [a.elapsed_time(b) / 1000 if notes.on_gpu else b - a for a, b in pairwise(marks)]
    return {
        "seconds": statistics.median(times),
        "fastest": min(times),
        "slowest": max(times),
        "steps": count,
        "first_loss": first,
        "peak_memory_mb": torch.cuda.max_memory_allocated() / 1e6 if notes.on_gpu else None,
    }


def train_steps(notes: Notes, method: str) -> None:
    """A reference-style step, ours in three precisions, and with features kept or computed anew."""
    subject, seconds = prepared(notes, method), notes.slice
    size = {"images": subject.recipe.batch_size, "image_size": subject.recipe.image_size}
    if subject.reference is not None:
        with notes.row(way="reference", precision="torch", kept=False, **size) as found:
            precise(notes, "torch")
            found |= timed(notes, subject.reference, seconds)
    for precision in PRECISIONS:
        with notes.row(way="ours", precision=precision, kept=subject.keeps, **size) as found:
            accelerator = precise(notes, precision)
            found |= timed(notes, lambda: subject.ours(accelerator, False, subject.keeps), seconds)  # noqa: B023
    if subject.reference is not None:
        with notes.row(way="ours", precision="bf16", kept=not subject.keeps, **size) as found:
            found |= timed(notes, lambda: subject.ours(accelerator, False, not subject.keeps), seconds)
    if subject.detector is not None:
        for batch in BATCHES if notes.on_gpu else (1, 2):
            with notes.row(way="scoring", batch=batch, image_size=subject.recipe.image_size) as found:
                precise(notes, "fp32")
                found |= latency(notes, subject, batch, 2 * seconds)


def latency(notes: Notes, subject: steps.Subject, batch: int, seconds: float) -> dict[str, object]:
    """From images in the host's memory to image scores in Python, call by call, in fp32."""
    assert subject.detector is not None
    detector = subject.detector()
    times: list[float] = []
    images = torch.randn(batch, 3, subject.recipe.image_size, subject.recipe.image_size)
    for _ in range(3):
        detector.score(images).image_scores.tolist()
    with notes.turn():
        end = time.perf_counter() + seconds
        while len(times) < 5 or (time.perf_counter() < end and len(times) < 1000):
            began = time.perf_counter()
            detector.score(images).image_scores.tolist()
            times.append(time.perf_counter() - began)
    p50, p95, p99 = (1000 * float(value) for value in np.percentile(times, (50, 95, 99)))
    rate = batch * len(times) / sum(times)
    return {"images_per_second": rate, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "calls": len(times)}


def compiled_step(notes: Notes, method: str) -> None:
    """Our step compiled, in bf16; it takes its turn with what else is timed."""
    subject = prepared(notes, method)
    size = {"images": subject.recipe.batch_size, "image_size": subject.recipe.image_size}
    with notes.row(way="compiled", precision="bf16", kept=subject.keeps, **size) as found:
        accelerator, began = precise(notes, "bf16"), time.perf_counter()
        found |= timed(notes, lambda: subject.ours(accelerator, True, subject.keeps), notes.slice)
        found["seconds_with_compiling"] = time.perf_counter() - began


def training(notes: Notes, command: str) -> None:
    """A short training as users run it: its own speed.csv, and how busy the GPU is between its readings."""
    images, out = notes.folder / f"{command}-images", notes.folder / command
    images.mkdir()
    bench_uniad.draw(images, 32 if notes.on_gpu else 4)
    words = (TRAININGS if notes.on_gpu else TINY)[command]
    where = ["--data", images, "--out", out, "--device", notes.device]
    asked = [*words.split(), "--weights", "random", *where]
    os.environ["AD_CACHE"] = str(notes.folder / f"{command}-cache")

    def readings() -> list[dict[str, str]]:
        return [row for table in out.rglob("speed.csv") for row in read_table(table)]

    with notes.row(command=f"{command} {words}") as found:
        with utilisation(notes, lambda: bool(readings())) as busy:
            done = call(command, *map(str, asked))
        if done.returncode:
            raise RuntimeError(done.stderr[-4000:])
        first, *later = readings()
        found |= {"first_reading": first, "last_reading": later[-1] if later else first}
        found["gpu_busy_percent"] = statistics.mean(busy) if busy else "not measured"


@contextmanager
def utilisation(notes: Notes, counts: Callable[[], bool]) -> Iterator[list[float]]:
    """What nvidia-smi says of the GPU's use, in percent, five times a second, while `counts`."""
    seen: list[float] = []
    if not notes.on_gpu or shutil.which("nvidia-smi") is None:
        yield seen
        return
    card = f"GPU-{torch.cuda.get_device_properties(notes.device).uuid}"
    query = ["nvidia-smi", "-i", card, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    with subprocess.Popen([*query, "--loop-ms=200"], stdout=subprocess.PIPE, text=True) as process:

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip().isdecimal() and counts():
                    seen.append(float(line))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield seen
        finally:
            process.terminate()
            reader.join()


def scoring(notes: Notes, method: str) -> None:
    """Exact pixel metrics on the host: after the scoring of as many images, and while they are scored."""
    subject, count = prepared(notes, method), 96 if notes.on_gpu else 4
    assert subject.detector is not None
    side, detector = subject.recipe.image_size, subject.detector()
    images = torch.randn(count, 3, side, side)
    maps, masks = bench_metrics.draw(count, side)

    def score() -> None:
        for batch in images.split(16):
            found = detector.score(batch).anomaly_maps
            assert isinstance(found, torch.Tensor)
            found.cpu()

    def measure() -> None:
        bench_metrics.exact(maps, masks)

    def seconds(*calls: Callable[[], None]) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(len(calls)) as pool:
            for done in [pool.submit(each) for each in calls]:
                done.result()
        return time.perf_counter() - began

    with notes.row(images=count, image_size=side) as found:
        precise(notes, "fp32")
        score()
        alone, metrics, together = seconds(score), seconds(measure), seconds(score, measure)
        found |= {"scoring_seconds": alone, "metrics_seconds": metrics, "together_seconds": together}
        found["hidden_share"] = (alone + metrics - together) / min(alone, metrics)


def data_parallel(notes: Notes, method: str, port: int, rank: int) -> None:
    """A step of the paper's batch, half of it on each of two processes."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    accelerator = precise(notes, "bf16")
    set_seed(0)
    with accelerator.device:
        subject = SUBJECTS[method](accelerator.device, not notes.on_gpu)
    own = replace(notes, folder=notes.folder / str(rank))  # both are timed at once
    own.folder.mkdir()
    found = timed(own, lambda: subject.ours(accelerator, False, subject.keeps), 0, least=20)
    if rank == 0:
        notes.tell(images=subject.recipe.batch_size, backend=torch.distributed.get_backend(), **found)
    torch.distributed.destroy_process_group()


def gpu_tests(notes: Notes) -> None:
    """`pytest -m gpu`, several at once, and what it counts."""
    report, workers = notes.folder / "tests.xml", min(6, os.cpu_count() or 1)
    words = ["-m", "gpu", "-n", str(workers), "--dist=load", "-q", f"--junitxml={report}"]
    with notes.row(command="pytest -m gpu") as found:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True
        )
        if not report.exists():
            raise RuntimeError(done.stdout[-3000:] + done.stderr[-1000:])
        (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
        found |= {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
        broken = (
            case for case in suite if case.find("failure") is not None or case.find("error") is not None
        )
        found["failed"] = [f"{case.attrib['classname']}::{case.attrib['name']}" for case in broken]
        found["output"] = done.stdout[-6000:] if done.returncode else ""
