"""Does a prediction keep every core busy? Its images/s beside what decoding, scoring and drawing cost alone.

Each part is timed by itself, its CPU time, in as many processes at once as there are cores, so that it meets
the caches and the neighbours that it has in a prediction. `allowed` is the rate at which the cores could do
decoding and scoring if nothing were in their way; the start of the process is not counted. The files are
drawn products of 900 x 900 pixels, 50 that are repeated under other names.

Run: uv run python benchmarks/bench_predict.py MODEL [MODEL ...] --images 2000
     uv run python benchmarks/bench_predict.py quickstart/recontrast/mono/model --images 400 --suffix jpg
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import adcommon as ad
from adcommon.deploy.inputs import Decoded, decode
from adcommon.deploy.model import Model
from adcommon.deploy.predict import LONGEST_SIDE, predict
from adcommon.results.drawing import draw, write_pictures
from adcommon.testing.trees import make_folder

SIDE, DISTINCT, BATCH = 900, 50, 8
PARTS = ("decoding", "scoring", "drawing")


def make_images(folder: Path, count: int, suffix: str) -> list[Path]:
    """Drawn products; every one lies there several times."""
    drawn = sorted((make_folder(folder / "drawn", good=DISTINCT, size=SIDE) / "good").iterdir())
    for file in drawn:
        if suffix != "png":
            Image.open(file).convert("RGB").save(file.with_suffix(f".{suffix}"), quality=92)
    (folder / "photos").mkdir()
    for number in range(count):
        source = drawn[number % DISTINCT].with_suffix(f".{suffix}")
        os.link(source, folder / "photos" / f"{number:05d}.{suffix}")
    return sorted((folder / "photos").iterdir())


def load(path: Path, references: Path | None) -> Model:
    return ad.load(path, references=references, device="cpu")


def part(name: str, model: Path, references: Path | None, images: list[Path], out: Path) -> float:
    """CPU seconds of one part for an image."""
    torch.set_num_threads(1)
    loaded = load(model, references)
    found = [decode(image, loaded.preprocess) for image in images[:BATCH]]
    pixels = np.concatenate([image.pixels for image in found if isinstance(image, Decoded)])
    maps = loaded.score_pixels(pixels).anomaly_maps

    def draw_all() -> None:
        for number, image in enumerate(images):
            assert maps is not None
            drawn = draw(image, maps[number % BATCH], loaded.preprocess, None, longest_side=LONGEST_SIDE)
            write_pictures(out, Path(f"{os.getpid()}-{number}.jpg"), *drawn, None)

    work: dict[str, Callable[[], object]] = {
        "decoding": lambda: [decode(image, loaded.preprocess) for image in images],
        "scoring": lambda: [loaded.score_pixels(pixels) for _ in range(0, len(images), BATCH)],
        "drawing": draw_all,
    }
    if name == "drawing" and maps is None:
        return 0.0
    began = time.process_time()
    work[name]()
    return (time.process_time() - began) / len(images)


def whole(
    model: Path, references: Path | None, photos: Path, out: Path, *, maps: bool
) -> tuple[float, float]:
    """Seconds and CPU seconds of a prediction."""
    loaded = load(model, references)
    loaded.score_pixels(np.zeros((BATCH, loaded.preprocess.size, loaded.preprocess.size, 3), np.uint8))
    began = time.perf_counter(), time.process_time()
    predict(loaded, photos, out, batch_size=BATCH, maps=maps)
    ended = time.perf_counter(), time.process_time()
    shutil.rmtree(out)
    return ended[0] - began[0], ended[1] - began[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", help="`model` folders, or files of `ad export`")
    parser.add_argument("--references", type=Path, help="of few-shot models, which are given alone")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--suffix", default="png", choices=["png", "jpg"])
    options = parser.parse_args()
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as `ad predict` has it; for the processes begun here
    cores = len(os.sched_getaffinity(0))
    headings = [
        "model",
        *(f"{name}, ms" for name in PARTS),
        "images/s",
        "of allowed",
        "with maps, times as long",
    ]
    print(f"{options.images} {options.suffix} files of {SIDE} x {SIDE}, {cores} cores")
    print(f"| {' | '.join(headings)} |\n{'|---' * len(headings)}|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = make_images(folder, options.images, options.suffix)
        for model in options.models:
            given = model, options.references
            costs = []
            for which in PARTS:
                with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
                    jobs = [
                        pool.submit(part, which, *given, images[:DISTINCT], folder / "parts")
                        for _ in range(cores)
                    ]
                    costs.append(sum(job.result() for job in jobs) / cores)
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                runs = [
                    pool.submit(whole, *given, folder / "photos", folder / "out", maps=maps).result()
                    for maps in (False, True)
                ]
            rate = options.images / runs[0][0]
            allowed = cores / (costs[0] + costs[1])
            cells = [
                str(model),
                *(f"{1000 * cost:.1f}" for cost in costs),
                f"{rate:.1f}",
                f"{rate / allowed:.2f}",
                f"{runs[1][0] / runs[0][0]:.2f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
