"""Seconds for exact pixel metrics, against the loop over 200 thresholds that research code usually has.

Run: uv run python benchmarks/bench_metrics.py
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage
from skimage.measure import label, regionprops

from adcommon.metrics import PixelMetrics, PixelResult
from adcommon.metrics.reference import recontrast_aupro_pooled
from adcommon.metrics.streaming import StreamingMetrics, StreamingResult

REPEATS = 3


def draw(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth float32 maps; three of five images have one to four elliptic defects, where scores are higher."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    maps = np.empty((count, side, side), dtype=np.float32)
    masks = np.zeros((count, side, side), dtype=bool)
    for number in range(count):
        for _ in range(rng.integers(1, 5) if number % 5 < 3 else 0):
            top, left = rng.uniform(0.1, 0.9, 2) * side
            height, width = rng.uniform(0.02, 0.1, 2) * side
            masks[number] |= ((rows - top) / height) ** 2 + ((columns - left) / width) ** 2 < 1
        texture = ndimage.gaussian_filter(rng.standard_normal((side, side)), side / 64)
        defect = ndimage.gaussian_filter(masks[number].astype(np.float64), side / 64)
        maps[number] = texture / texture.std() + 3 * defect * rng.uniform(0.2, 1)
    return maps, masks


def exact(maps: np.ndarray, masks: np.ndarray) -> PixelResult:
    """AUPRO at two limits, AUROC, AP and F1-max: what this package does."""
    metrics = PixelMetrics()
    metrics.update(maps, masks)
    return metrics.compute(limits=(0.3, 0.05))


def streaming(maps: np.ndarray, masks: np.ndarray) -> StreamingResult:
    """The same in bounded memory, one pass."""
    metrics = StreamingMetrics()
    metrics.update(maps, masks)
    return metrics.compute(limits=(0.3, 0.05))


def usual_loop(maps: np.ndarray, masks: np.ndarray) -> float:
    """AUPRO alone, as research code computes it: 200 thresholds, and all regions found again at each."""
    low, high = maps.min(), maps.max()
    fprs, pros = [], []
    for threshold in np.arange(low, high, (high - low) / 200):
        found = maps > threshold
        overlaps = []
        for prediction, mask in zip(found, masks, strict=True):
            for region in regionprops(label(mask)):
                ys, xs = region.coords.T
                overlaps.append(prediction[ys, xs].sum() / region.area)
        pros.append(np.mean(overlaps))
        fprs.append(np.logical_and(found, ~masks).sum() / (~masks).sum())
    fpr, pro = np.array(fprs), np.array(pros)
    fpr, pro = fpr[fpr < 0.3], pro[fpr < 0.3]
    return float(abs(np.trapezoid(pro, fpr / fpr.max())))


def seconds(function: Callable, maps: np.ndarray, masks: np.ndarray, repeats: int = REPEATS) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function(maps, masks)
        times.append(time.perf_counter() - began)
    return min(times)


def peak_megabytes(function: Callable, maps: np.ndarray, masks: np.ndarray) -> float:
    """Most memory that the function holds at once besides its inputs, as Python and NumPy allocate it."""
    tracemalloc.start()
    function(maps, masks)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    small, large = draw(60, 256), draw(20, 1024)
    result = exact(*small)
    ours, loop = seconds(exact, *small), seconds(usual_loop, *small, repeats=1)
    print(
        f"60 maps of 256x256 pixels, {result.regions} regions, one thread, best of {REPEATS} (the loop: once)"
    )
    print(
        f"  exact AUPRO, AUROC, AP, F1-max   {ours:8.3f} s   {peak_megabytes(exact, *small):6.0f} MB at most"
    )
    print(f"  usual loop, AUPRO only           {loop:8.3f} s")
    print(f"  ratio                            {loop / ours:8.0f} x")
    print(f"  same values, regions sorted once {seconds(recontrast_aupro_pooled, *small):8.3f} s")
    difference = recontrast_aupro_pooled(*small) - usual_loop(*small)
    print(
        f"    difference to the loop {difference:.0e}; loop minus exact AUPRO "
        f"{usual_loop(*small) - result.aupro[0.3]:+.4f}"
    )
    bounded = streaming(*small)
    print(
        f"  streaming, one pass              {seconds(streaming, *small):8.3f} s   "
        f"{peak_megabytes(streaming, *small):6.0f} MB at most, error bound {bounded.error:.0e}"
    )
    result, bounded = exact(*large), streaming(*large)
    print(f"20 maps of 1024x1024 pixels, {result.regions} regions")
    print(
        f"  exact AUPRO, AUROC, AP, F1-max   {seconds(exact, *large):8.3f} s   "
        f"{peak_megabytes(exact, *large):6.0f} MB at most"
    )
    print(
        f"  streaming, one pass              {seconds(streaming, *large):8.3f} s   "
        f"{peak_megabytes(streaming, *large):6.0f} MB at most, error bound {bounded.error:.0e}"
    )


if __name__ == "__main__":
    main()
