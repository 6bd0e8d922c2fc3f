"""What computes a trained model fastest, and is it still the same model? One thread.

torch, torch compiled, onnxruntime and OpenVINO, the last two in 32 and in 8 bits. The models are those of
`ad quickstart`, trained on solar cells, and patchcore's of its recipe `small`; the images are ELPV's test
cells of the kind mono. All judge the 32-bit models; 80 good ones, drawn with seed 0, give 8-bit models their
ranges and thresholds, and the others judge these. Nothing is refused here.

Every runtime has a process of its own, and they are asked in turn, so that all meet the same load; the times
are those of the CPU. What `--work` holds is used again.

Run: uv run python benchmarks/bench_runtimes.py docs/deploy.md --work bench_runtimes --seconds 5
"""

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tables import replace_table

from adcommon.data.sources.embedded import scan_elpv
from adcommon.deploy.fastest import smooth_pixels
from adcommon.io.files import atomic_write
from adcommon.types.records import Record
from adcommon.types.values import Runtime

if TYPE_CHECKING:  # what torch is not loaded for, whose memory would count
    from adcommon.deploy.exporting.checked import Precision
    from adcommon.deploy.exporting.export import Format
    from adcommon.deploy.model import Model

METHODS = ("recontrast", "uniad", "realnet", "inctrl", "resad", "padim", "patchcore")
REFERENCES = {"inctrl": 8, "resad": 8}
FILES: "dict[str, tuple[str, Format, Precision]]" = {
    "onnxruntime": ("{}.onnx", "onnx", "fp32"),
    "openvino": ("{}.xml", "openvino", "fp32"),
    "onnxruntime int8": ("{}-int8.onnx", "onnx", "int8"),
    "openvino int8": ("{}-int8.xml", "openvino", "int8"),
}
"""Exports: file, format, precision. OpenVINO computes the ONNX files, as users have it."""
RUNTIMES = ("torch", "torch compiled", *FILES)
EXTRAS = {"torch": "train", "onnxruntime": "onnx", "openvino": "openvino"}
BATCHES = (1, 16)
CALIBRATION = 80


def prepare(work: Path, name: str) -> None:
    """Train the model and write it in every form, where that is not done yet; keep how forms compare."""
    import adcommon as ad
    from adcommon.errors import ExportFailed

    if not (work / "runs" / name).exists():
        words = ["ad", "quickstart", name, "--out", str(work / "runs")]
        if name == "patchcore":
            words = "patchcore-train --recipe small --dataset elpv --category mono --out".split()
            words.append(str(work / "runs/patchcore"))
        subprocess.run(words, check=True, capture_output=True)
    model = None
    for runtime, (file, form, precision) in FILES.items():
        kept = work / f"{name} {runtime}.json"
        if kept.exists():
            continue
        model = model or load(work, name)
        int8 = precision == "int8"
        try:
            checked = ad.export(
                model,
                work / file.format(name),
                precision=precision,
                format=form,
                check_images=work / ("judges" if int8 else "cells"),
                calibration_images=work / "calibration" if int8 else None,
                max_change=math.inf,
            )
            found = asdict(checked)
        except ExportFailed as error:
            found = {"error": str(error)}
        kept.write_text(json.dumps(found))


def lay_out(work: Path) -> None:
    """The images, in folders that say what they are."""
    if (work / "judges").exists():
        return
    split = scan_elpv("mono").split
    good = [record for record in split.test if not record.label]
    order = np.random.default_rng(0).permutation(len(good))
    drawn = [good[place] for place in order[:CALIBRATION]]
    taken = {record.image for record in drawn}
    _copy(split.train[: max(REFERENCES.values())], work / "references")
    _copy(drawn, work / "calibration")
    _copy(split.test, work / "cells")
    _copy((record for record in split.test if record.image not in taken), work / "judges")


def _copy(records: Iterable[Record], folder: Path) -> None:
    for record in records:
        to = folder / ("defective" if record.label else "good")
        to.mkdir(parents=True, exist_ok=True)
        shutil.copy(record.image, to)


def load(work: Path, name: str, *, compile: bool = False) -> "Model":
    """The model in torch."""
    import adcommon as ad

    (folder,) = (work / "runs" / name).rglob("model")
    count = REFERENCES.get(name)
    references = sorted((work / "references/good").iterdir())[:count] if count else None
    category = "mono" if name == "uniad" else None
    return ad.load(folder, references=references, category=category, device="cpu", compile=compile)


def computer(work: Path, name: str, runtime: str) -> tuple[Callable[[np.ndarray], object], int]:
    """What scores pixels, and their side."""
    import adcommon as ad

    if runtime in FILES:
        file = FILES[runtime][0].format(name).replace(".xml", ".onnx")
        bare: Runtime = "openvino" if runtime.startswith("openvino") else "onnxruntime"
        model = ad.load(work / file, runtime=bare, threads=1)
        return model.score_pixels, model.preprocess.size
    import torch

    torch.set_num_threads(1)
    model = load(work, name, compile=runtime == "torch compiled")
    return model.score_pixels, model.preprocess.size


def answer(work: Path, name: str, runtime: str, batch: int) -> None:
    """For each line on stdin, seconds: compute for so long; print the seconds of each call and memory."""
    compute, size = computer(work, name, runtime)
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


def said(process: "subprocess.Popen[str]", asked: str = "") -> str:
    """The next line of a process, which is asked for it first."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(asked)
    process.stdin.flush()
    return process.stdout.readline()


def measure(work: Path, name: str, runtimes: list[str], batch: int, seconds: float) -> Iterator[list[str]]:
    """A row for each runtime: the processes compute in turn, a tenth of the time each."""
    processes = {}
    for runtime in runtimes:
        command = [sys.executable, __file__, "--work", str(work), "--answer", name, runtime, str(batch)]
        processes[runtime] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        said(processes[runtime])  # one starts after the other
    calls: dict[str, list[float]] = {runtime: [] for runtime in runtimes}
    memory = dict.fromkeys(runtimes, 0)
    for _ in range(10):
        for runtime, process in processes.items():
            if process.poll() is None:
                some, memory[runtime] = json.loads(said(process, f"{seconds / 10}\n"))
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

    waiting: list[tuple[str, tuple[str, ...]]] = [("adcommon", (extra, ""))]
    seen, total = set(), 0
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


def agreement(work: Path, name: str) -> Iterator[list[str]]:
    """A row for each exported file: how it compares with torch."""
    for runtime in FILES:
        found = json.loads((work / f"{name} {runtime}.json").read_text())
        if "error" in found:
            yield [name, runtime, found["error"], "", "", "", ""]
            continue
        torch_auroc, own = found["auroc"]
        changed = found["decisions_changed"]
        yield [
            name,
            runtime,
            str(found["images"]),
            f"{found['difference']:.0e}",
            f"{found['rank_correlation']:.4f}",
            f"{100 * torch_auroc:.2f} → {100 * own:.2f}",
            "no threshold" if changed is None else str(changed),
        ]


def text(headings: str, rows: Iterable[list[str]]) -> str:
    """As Markdown."""
    lines = [f"| {headings} |", "|---" * len(headings.split("|")) + "|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, nargs="?", help="that has the lines of both tables")
    parser.add_argument("--work", type=Path, default=Path("bench_runtimes"), help="models, kept")
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
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
    lay_out(options.work)
    speed: list[list[str]] = []
    same: list[list[str]] = []
    for name in options.methods:
        # Not here: a process begins with the memory of the one that started it.
        command = [sys.executable, __file__, "--work", str(options.work), "--prepare", name]
        subprocess.run(command, check=True)
        same += agreement(options.work, name)
        for batch in BATCHES:
            for row in measure(options.work, name, options.runtimes, batch, options.seconds):
                print(*row, sep="\t", flush=True)
                speed.append(row)
    tables = {
        "speed": text("method | batch | runtime | images/s | p50, ms | p99, ms | memory, MB", speed),
        "agreement": text(
            "method | runtime | cells | difference | rank correlation | AUROC | decisions changed", same
        ),
    }
    page = options.page.read_text() if options.page else None
    for mark, table in tables.items():
        print(table)
        if page is not None:
            page = replace_table(page, f"runtimes: {mark}", table)
    if page is not None:
        atomic_write(options.page, page)
    print("packages:", ", ".join(f"{name} {megabytes(extra):.0f} MB" for name, extra in EXTRAS.items()))


if __name__ == "__main__":
    main()
