"""Images per second of the loader, with and without its caches, on drawn 900x900 PNG files.

Run: uv run python benchmarks/bench_loading.py
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

from adcommon.datasets.loading import AnomalyDataset, test_batches
from adcommon.disk_cache import DiskCache
from adcommon.preprocess import Preprocess
from adcommon.records import Record

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


def load(folder: Path, cache: DiskCache | None, passes: int = 1) -> list[float]:
    """Images per second of each pass over the folder."""
    records = [Record(path, "drawn", label=0) for path in sorted(folder.glob("*.png"))]
    dataset = AnomalyDataset(records, Preprocess(image_size=256), cache)
    rates = []
    for _ in range(passes):
        began = time.perf_counter()
        for _ in test_batches(dataset, BATCH_SIZE):
            pass
        rates.append(len(records) / (time.perf_counter() - began))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=64, help="number of images")
    parser.add_argument("--cached", type=Path, help=argparse.SUPPRESS)  # what the new process is to load
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.cached is not None:
        print(load(options.cached, DiskCache(options.cached / "cache"))[0])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder, options.count)
        uncached = max(load(folder, None)[0] for _ in range(REPEATS))
        first, *again = load(folder, DiskCache(folder / "cache"), passes=1 + REPEATS)
        command = [sys.executable, __file__, "--cached", str(folder)]
        new_processes = [
            float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(REPEATS)
        ]
        megabytes = sum(path.stat().st_size for path in folder.glob("*.png")) / options.count / 1e6
    print(
        f"{options.count} PNG files of {SIDE}x{SIDE} pixels, {megabytes:.2f} MB each, to 256x256, "
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
