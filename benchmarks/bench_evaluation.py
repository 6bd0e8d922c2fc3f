"""Peak memory of evaluating drawn anomaly maps of 256x256: all of them kept, and in bounded memory.

Run: uv run python benchmarks/bench_evaluation.py --exact 500 5000 10000 --plot docs/memory.svg
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.bounded import Passing
from adcommon.evaluation.collect import Predictions, kept
from adcommon.evaluation.measure import measure
from adcommon.types.prediction import Prediction
from adcommon.types.records import Evaluation, Record

SIDE, BATCH, DEFECTS = 256, 16, 8


def draw(count: int, folder: Path) -> AnomalyDataset:
    """Records of so many images, every second one with one of a few elliptic defects."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for number in range(DEFECTS):
        top, left = 40 + 22 * number, 210 - 20 * number
        mask = ((rows - top) / (6 + 2 * number)) ** 2 + ((columns - left) / 20) ** 2 < 1
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{number}.png")
    masks = [folder / f"{place % DEFECTS}.png" for place in range(count)]  # which stand for the images too
    records = [
        Record(mask, "drawn", 1, "spot", mask) if place % 2 else Record(mask, "drawn", 0)
        for place, mask in enumerate(masks)
    ]
    return AnomalyDataset(records, Preprocess(image_size=SIDE), memory_bytes=0)


def predictions(dataset: AnomalyDataset) -> Iterator[tuple[np.ndarray, Prediction]]:
    """Smooth maps, drawn batch after batch, higher where the defects are."""
    generator = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(generator.standard_normal((4 * SIDE, 4 * SIDE)), 4)
    for first in range(0, len(dataset), BATCH):
        places = np.arange(first, min(first + BATCH, len(dataset)))
        corners = generator.integers(0, 3 * SIDE, (len(places), 2))
        maps = np.stack([texture[row : row + SIDE, column : column + SIDE] for row, column in corners])
        maps = maps / texture.std() + generator.normal(0, 0.1, maps.shape)
        for place, anomaly_map in zip(places.tolist(), maps, strict=True):
            mask = dataset.records[place].mask
            if mask is not None:
                anomaly_map += 1.5 * (np.asarray(Image.open(mask)) > 0)
        drawn = torch.from_numpy(maps.astype(np.float32))
        yield places, Prediction(drawn.amax((1, 2)), drawn)


def evaluated(dataset: AnomalyDataset, metrics: str) -> Evaluation:
    """By the calls that every evaluation makes of what a detector says."""
    said: Predictions = predictions(dataset)
    if metrics == "exact":
        return measure(kept(said, dataset), category="drawn")
    passing = Passing(dataset)
    return passing.measured(kept(passing.without_maps(said), dataset), "drawn")


def measured(count: int, metrics: str) -> tuple[float, float, Evaluation]:
    """Seconds, the growth of the process in megabytes, and what was found; for a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        evaluated(draw(BATCH, Path(folder)), metrics)  # what is loaded once
        dataset = draw(count, Path(folder))
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        found = evaluated(dataset, metrics)
        seconds = time.perf_counter() - began
        return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, found


def plot(megabytes: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """Memory against the number of maps, a line for each kind of metrics, both axes logarithmic."""
    with rc_context({"svg.hashsalt": "memory", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(4.8, 3.2), layout="constrained")
        axes = figure.subplots()
        for metrics, points in megabytes.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=f"--metrics {metrics}")
            for count, size in points:
                axes.annotate(f"{size:,.0f}", (count, size), (0, 5), textcoords="offset points", ha="center")
        axes.set(xscale="log", yscale="log", xlabel="maps of 256x256", ylabel="memory besides, MB")
        ticks = sorted({count for points in megabytes.values() for count, _ in points})
        axes.set_xticks(ticks, [f"{count:,}" for count in ticks])
        axes.minorticks_off()
        axes.margins(y=0.15)
        axes.legend(frameon=False)
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print a row for every number of maps and kind of metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exact", type=int, nargs="*", default=[500, 5000], help="each takes up to 0.9 MB")
    parser.add_argument("--bounded", type=int, nargs="*", default=[500, 5000, 20000])
    parser.add_argument("--plot", type=Path, help="an SVG of the same")
    options = parser.parse_args()
    grown: dict[str, list[tuple[int, float]]] = {}
    print("| maps of 256x256 | metrics | memory besides | seconds | pixel AUROC | AUPRO |")
    print("|---|---|---|---|---|---|")
    for metrics, counts in (("exact", options.exact), ("bounded", options.bounded)):
        for count in counts:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                seconds, megabytes, found = process.apply(measured, (count, metrics))
            grown.setdefault(metrics, []).append((count, megabytes))
            cells = [f"{count:,}", f"`{metrics}`", f"{megabytes:,.0f} MB", f"{seconds:.0f}"]
            for name in ("pixel_auroc", "aupro"):
                low, high = found.certified.get(name, (None, None))
                interval = "" if low is None else f" ({low:.6f} to {high:.6f})"
                cells.append(f"{getattr(found, name):.6f}{interval}")
            print(f"| {' | '.join(cells)} |", flush=True)
    if options.plot is not None:
        plot(grown, options.plot)


if __name__ == "__main__":
    main()
