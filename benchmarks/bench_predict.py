"""Does a prediction keep every core busy? Its images/s beside what decoding, scoring and drawing cost alone.

Each part is timed by itself, its CPU time, in as many processes at once as there are cores, so that it meets
the caches and the neighbours that it has in a prediction; the mean counts of before the predictions and after
them, because a machine that is shared does not stay the same. `allowed` is the rate at which the cores could
do decoding and scoring if nothing were in their way; starting, which is counted apart, is importing, loading
and the first batch. Where other programs want the cores, compare CPU times: rates are theirs too then. The
files are drawn products of 900 x 900 pixels, 50 that are repeated under other names.

Run: uv run python benchmarks/bench_predict.py MODEL [MODEL ...] --images 2000
     uv run python benchmarks/bench_predict.py quickstart/*/*/model --seconds 15 --into docs/deploy.md
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tables import replace_table

import adcommon as ad
from adcommon.deploy.inputs import Decoded, decode
from adcommon.deploy.model import Model
from adcommon.deploy.predict import LONGEST_SIDE, predict
from adcommon.io.files import atomic_write
from adcommon.io.memory import keep_freed_memory
from adcommon.results.drawing import covered, write_pictures
from adcommon.testing.trees import make_folder

SIDE, DISTINCT, BATCH = 900, 50, 8
FEW_SHOT = ("inctrl", "resad")
HEADINGS = (
    *("model", "start, s", "decoding, ms", "scoring, ms", "drawing, ms"),
    *("images", "allowed, images/s", "images/s", "of allowed", "CPU, ms"),
    *("with maps, images/s", "times as long", "CPU with maps, ms", "load"),
)


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What a prediction took."""

    seconds: float
    cpu: float
    """Seconds of all threads."""


def make_images(folder: Path, count: int, suffix: str) -> list[Path]:
    """Drawn products; every one lies there several times."""
    drawn = sorted((make_folder(folder / "drawn", good=DISTINCT, size=SIDE) / "good").iterdir())
    for file in drawn:
        if suffix != "png":
            Image.open(file).convert("RGB").save(file.with_suffix(f".{suffix}"), quality=92)
    images = []
    for number in range(count):
        source = drawn[number % DISTINCT].with_suffix(f".{suffix}")
        images.append(folder / "drawn" / f"{number:05d}.{suffix}")
        os.link(source, images[-1])
    return images


def load(path: Path, references: Path | None, threads: int | None = None) -> Model:
    """Few-shot models alone are given the references."""
    if path.suffix == ".onnx":
        return ad.load(path, threads=threads)
    method = json.loads((path / "config.json").read_text(encoding="utf-8"))["method"]
    return ad.load(path, references=references if method in FEW_SHOT else None, device="cpu")


def parts(path: Path, references: Path | None, images: list[Path], out: Path) -> list[float]:
    """CPU seconds of decoding, scoring and drawing for an image."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as `ad predict` does
    model = load(path, references, threads=1)
    found = [decode(image, model.preprocess, view=LONGEST_SIDE) for image in images[:BATCH]]
    kept = [image for image in found if isinstance(image, Decoded)]
    pixels = np.concatenate([image.pixels for image in kept])
    maps = model.score_pixels(pixels).anomaly_maps
    colours = None if model.calibration is None else model.calibration.colours

    def draw(number: int) -> None:
        view, name = kept[number % BATCH].view, Path(f"{os.getpid()}-{number}.jpg")
        assert view is not None
        assert maps is not None
        drawn = covered(view, maps[number % BATCH], model.preprocess, colours)
        write_pictures(out, name, view, drawn, None)

    costs = []
    for work, each in (
        (lambda number: decode(images[number], model.preprocess, view=LONGEST_SIDE), 1),
        (lambda _: model.score_pixels(pixels), BATCH),
        (draw, 1),
    ):
        began = time.process_time()
        for number in range(0, len(images), each):
            work(number)
        costs.append((time.process_time() - began) / len(images))
    return costs


def mean_parts(path: Path, references: Path | None, images: list[Path], out: Path, cores: int) -> np.ndarray:
    """The same, the mean of so many processes at once."""
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        jobs = [pool.submit(parts, path, references, images, out) for _ in range(cores)]
        return np.mean([job.result() for job in jobs], axis=0)


def wholes(
    path: Path, references: Path | None, photos: Path, out: Path, begun: float
) -> tuple[str, float, list[Whole]]:
    """The model's name, the seconds of its start, and a prediction without and with maps."""
    keep_freed_memory()
    model = load(path, references)
    model.score_pixels(np.zeros((BATCH, model.preprocess.size, model.preprocess.size, 3), np.uint8))
    started, found = time.time() - begun, []
    for maps in (False, True):
        began = time.perf_counter(), time.process_time()
        predict(model, photos, out, batch_size=BATCH, maps=maps)
        ended = time.perf_counter(), time.process_time()
        found.append(Whole(seconds=ended[0] - began[0], cpu=ended[1] - began[1]))
        shutil.rmtree(out)
    return f"{model.method}, {model.runtime}", started, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", help="`model` folders, or files of `ad export`")
    parser.add_argument("--references", type=Path, help="of few-shot models")
    parser.add_argument("--images", type=int, default=2000, help="at most")
    parser.add_argument("--seconds", type=float, help="no more images than are allowed in so many")
    parser.add_argument("--suffix", default="png", choices=["png", "jpg"])
    parser.add_argument("--into", type=Path, help="page whose table `predict` is replaced")
    options = parser.parse_args()
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as `ad predict` has it; for the processes begun here
    cores = len(os.sched_getaffinity(0))
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    print(f"{options.suffix} files of {SIDE} x {SIDE}, {cores} cores", *lines, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = make_images(folder, options.images, options.suffix)
        for model in options.models:
            given = model, options.references
            before = mean_parts(*given, images[:DISTINCT], folder / "parts", cores)
            rate = cores / (before[0] + before[1])
            count = min(len(images), max(BATCH, int(rate * (options.seconds or 3600))))
            (photos := folder / "photos").mkdir()
            for image in images[:count]:
                os.link(image, photos / image.name)
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                job = pool.submit(wholes, *given, photos, folder / "out", time.time())
                title, start, (plain, drawn) = job.result()
            shutil.rmtree(photos)
            costs = (before + mean_parts(*given, images[:DISTINCT], folder / "parts", cores)) / 2
            allowed = cores / (costs[0] + costs[1])
            cells = (
                *(title, f"{start:.1f}", *(f"{1000 * cost:.1f}" for cost in costs)),
                *(str(count), f"{allowed:.1f}", f"{count / plain.seconds:.1f}"),
                *(f"{count / plain.seconds / allowed:.2f}", f"{1000 * plain.cpu / count:.1f}"),
                *(f"{count / drawn.seconds:.1f}", f"{drawn.seconds / plain.seconds:.2f}"),
                *(f"{1000 * drawn.cpu / count:.1f}", f"{os.getloadavg()[0]:.1f}"),
            )
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    if options.into is not None:
        page = replace_table(options.into.read_text(encoding="utf-8"), "predict", "\n".join(lines) + "\n")
        atomic_write(options.into, page)


if __name__ == "__main__":
    main()
