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
from adcommon.metrics.streaming import StreamingMetrics, StreamingResult
from recontrast.metrics import recontrast_aupro_pooled

REPEATS = 7


def draw(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth float32 maps; three images of five have up to four elliptic defects, where scores are higher."""
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
    """AUPRO alone, as research code has it: 200 thresholds, masks labelled and inverted again at each."""
    masks = masks.astype(np.uint8)
    low, high = maps.min(), maps.max()
    found = np.zeros_like(maps, dtype=bool)
    fprs, pros = [], []
    for threshold in np.arange(low, high, (high - low) / 200):
        found[maps <= threshold] = False
        found[maps > threshold] = True
        overlaps = []
        for prediction, mask in zip(found, masks, strict=True):
            for region in regionprops(label(mask)):
                rows, columns = region.coords.T
                overlaps.append(prediction[rows, columns].sum() / region.area)
        normal = 1 - masks
        fprs.append(np.logical_and(normal, found).sum() / normal.sum())
        pros.append(np.mean(overlaps))
    fpr, pro = np.array(fprs), np.array(pros)
    fpr, pro = fpr[fpr < 0.3], pro[fpr < 0.3]
    return float(abs(np.trapezoid(pro, fpr / fpr.max())))


def seconds(function: Callable, maps: np.ndarray, masks: np.ndarray) -> float:
    times = []
    for _ in range(REPEATS):
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


def line(what: str, function: Callable, maps: np.ndarray, masks: np.ndarray) -> float:
    """Print and return the seconds of a function; print its peak memory too."""
    taken = seconds(function, maps, masks)
    print(f"  {what:34}{taken:8.3f} s {peak_megabytes(function, maps, masks):6.0f} MB")
    return taken


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    small, large = draw(60, 256), draw(20, 1024)
    print(f"one thread, best of {REPEATS}; memory besides the maps and masks")

    result = exact(*small)
    print(f"60 maps of 256x256 pixels, {result.regions} regions")
    ours = line("exact AUPRO, AUROC, AP and F1-max", exact, *small)
    began = time.perf_counter()
    looped = usual_loop(*small)
    loop = time.perf_counter() - began
    print(f"  {'usual loop, AUPRO only (once)':34}{loop:8.3f} s")
    print(f"  {'ratio':34}{loop / ours:8.0f} x")
    line("the loop's value, labelled once", recontrast_aupro_pooled, *small)
    line(f"streaming, bound {streaming(*small).error:.0e}", streaming, *small)
    print(
        f"  AUPRO {result.aupro[0.3]:.6f}, of the loop {looped:.6f}, labelled once "
        f"{recontrast_aupro_pooled(*small):.6f}, streaming {streaming(*small).aupro[0.3].value:.6f}"
    )

    result = exact(*large)
    print(f"20 maps of 1024x1024 pixels, {result.regions} regions")
    line("exact AUPRO, AUROC, AP and F1-max", exact, *large)
    line(f"streaming, bound {streaming(*large).error:.0e}", streaming, *large)


if __name__ == "__main__":
    main()
