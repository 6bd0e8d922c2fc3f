"""Images per second of the loader, with and without its caches, on drawn 900x900 PNG files or on a dataset.

Run: uv run python benchmarks/bench_loading.py
     uv run python benchmarks/bench_loading.py --dataset elpv --category elpv
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from adcommon.data import load_splits
from adcommon.data.loading import AnomalyDataset, test_batches
from adcommon.data.preprocess import Preprocess
from adcommon.io.cache import DiskCache
from adcommon.io.images import image_size
from adcommon.types.records import Record

SIDE = 900
BATCH_SIZE = 16
REPEATS = 3


def draw(folder: Path, count: int) -> None:
    """Soft shapes under a camera's noise, which compress about as well as photographs of products."""
    rng = np.random.default_rng(0)
    for number in range(count):
        shapes = Image.fromarray(rng.integers(40, 216, (12, 12, 3), dtype=np.uint8))
        soft = np.asarray(shapes.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = soft + rng.normal(0, 2, soft.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04}.png")


def load(records: list[Record], cache: DiskCache | None, passes: int = 1) -> list[float]:
    """Images per second of each pass over the records."""
    dataset = AnomalyDataset(records, Preprocess(image_size=256), cache)
    rates = []
    for _ in range(passes):
        began = time.perf_counter()
        for _ in test_batches(dataset, BATCH_SIZE):
            pass
        rates.append(len(records) / (time.perf_counter() - began))
    return rates


def drawn(folder: Path) -> list[Record]:
    return [Record(path, "drawn", label=0) for path in sorted(folder.glob("*.png"))]


def listed(dataset: str, root: Path, categories: list[str]) -> list[Record]:
    """All images of a dataset, as the catalogue finds them."""
    splits = load_splits(dataset, root, categories).values()
    return [record for split in splits for record in (*split.train, *split.test)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=64, help="number of drawn images")
    parser.add_argument("--dataset", help="load all images of this dataset instead of drawn ones")
    parser.add_argument("--category", nargs="*", default=[], help="only these; by default all")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--cached", type=Path, help=argparse.SUPPRESS)  # what the new process is to load
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = options.cached or Path(name)
        if options.dataset:
            records = listed(options.dataset, options.data_root, options.category)
        else:
            if options.cached is None:
                draw(folder, options.count)
            records = drawn(folder)
        if options.cached is not None:
            print(load(records, DiskCache(folder / "cache"))[0])
            return
        report(records, folder)


def report(records: list[Record], folder: Path) -> None:
    """Measure and print."""
    uncached = max(load(records, None)[0] for _ in range(REPEATS))
    first, *again = load(records, DiskCache(folder / "cache"), passes=1 + REPEATS)
    command = [sys.executable, __file__, *sys.argv[1:], "--cached", str(folder)]
    new_processes = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(REPEATS)
    ]
    megabytes = sum(record.image.stat().st_size for record in records) / len(records) / 1e6
    width, height = image_size(records[0].image)
    print(
        f"{len(records)} images of {width}x{height} pixels, {megabytes:.2f} MB each, to 256x256, "
        f"one thread, best of {REPEATS}"
    )
    rates = {
        "uncached": uncached,
        "first pass, filling the cache": first,
        "cached, new process": max(new_processes),
        "cached, same process": max(again),
    }
    for what, rate in rates.items():
        print(f"{what:30} {rate:8.0f} images/s  {rate / uncached:6.1f} x uncached")


if __name__ == "__main__":
    main()
