"""Images per second of the loader, with and without its caches, on drawn 900x900 PNG files or on all of ELPV.

Run: uv run python benchmarks/bench_loading.py
     uv run python benchmarks/bench_loading.py --elpv
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from adcommon.datasets import load_records
from adcommon.datasets.embedded import elpv_folder, read_cells, split_cells
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


def drawn_records(folder: Path) -> list[Record]:
    return [Record(path, "drawn", label=0) for path in sorted(folder.glob("*.png"))]


def elpv_records() -> list[Record]:
    """What the catalogue lists of ELPV, and the cells that its protocol drops."""
    split = load_records("elpv", None, "elpv")
    folder = elpv_folder()
    dropped = [
        Record(folder / cell.path, "elpv", label=0) for cell in split_cells(read_cells(folder)).dropped
    ]
    return [*split.train, *split.test, *dropped]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=64, help="number of drawn images")
    parser.add_argument("--elpv", action="store_true", help="the 2,624 solar cells instead of drawn images")
    parser.add_argument("--cached", type=Path, help=argparse.SUPPRESS)  # what the new process is to load
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.cached is not None:
        records = elpv_records() if options.elpv else drawn_records(options.cached)
        print(load(records, DiskCache(options.cached / "cache"))[0])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.elpv:
            draw(folder, options.count)
        records = elpv_records() if options.elpv else drawn_records(folder)
        megabytes = sum(record.image.stat().st_size for record in records) / len(records) / 1e6
        uncached = max(load(records, None)[0] for _ in range(REPEATS))
        first, *again = load(records, DiskCache(folder / "cache"), passes=1 + REPEATS)
        command = [sys.executable, __file__, "--cached", str(folder), *(["--elpv"] if options.elpv else [])]
        new_processes = [
            float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(REPEATS)
        ]
    what = "PNG files of ELPV, 300x300 pixels" if options.elpv else f"PNG files of {SIDE}x{SIDE} pixels"
    print(f"{len(records)} {what}, {megabytes:.2f} MB each, to 256x256, one thread, best of {REPEATS}")
    print(f"load average of the machine over the last minute: {os.getloadavg()[0]:.1f}")
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
