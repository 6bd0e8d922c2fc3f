"""What the tests of the papers' own metrics share: drawn maps, the golden columns, a slow PRO curve."""

import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CASES = 17
"""Golden files that have columns of the papers, at least."""


def drawn(images: int = 5, size: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps with higher scores in rectangles and a ring, and their masks; the first image is normal."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((images, size, size), dtype=bool)
    for mask in masks[1:]:
        top, left = generator.integers(0, size - 12, 2)
        mask[top : top + 11, left : left + 9] = True
        mask[top + 3 : top + 6, left + 3 : left + 6] = False
        mask[0, 0] = mask[-1, -1] = True
    noise = ndimage.gaussian_filter(generator.normal(size=masks.shape), (0, 2, 2))
    return (noise / noise.std() + masks).astype(np.float32), masks


def assert_golden_columns(
    folder: Path,
    paper: str,
    measure: Callable[[np.ndarray, np.ndarray], Mapping[str, float]],
    atol: float = 1e-6,
) -> None:
    """Fail unless all columns of a paper have their golden values on every golden map.

    Args:
        folder: of the golden files of the metrics.
        paper: how the names of its columns begin.
        measure: the columns of maps and masks, by name without that beginning.
        atol: largest difference.
    """
    cases = golden_cases(folder)
    assert len(cases) >= CASES, f"only {len(cases)} in {folder}"
    for case, golden in cases.items():
        got = quietly(measure, golden["maps"], golden["masks"])
        stored = {name.removeprefix(f"{paper}_"): name for name in golden if name.startswith(f"{paper}_")}
        assert got.keys() == stored.keys(), (case, got.keys() ^ stored.keys())
        raised = json.loads(str(golden["reference_errors"]))
        for name, value in got.items():
            wanted = float(golden[stored[name]])
            assert math.isnan(wanted) or stored[name] not in raised, (case, name)
            both_undefined = math.isnan(value) and math.isnan(wanted)
            assert both_undefined or abs(value - wanted) <= atol, (case, name, value, wanted)


def golden_cases(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of the golden files that have columns of the papers, by the file's name."""
    files = {path.stem: dict(np.load(path)) for path in sorted(folder.glob("*.npz"))}
    return {name: arrays for name, arrays in files.items() if "reference_errors" in arrays}


def quietly(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function without the warnings that have tests of their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments)


def sampled_curve(
    maps: np.ndarray, masks: np.ndarray, thresholds: np.ndarray, filled: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PRO and FPR by labelling and thresholding everything again for each threshold.

    Args:
        maps: scores, higher is more anomalous.
        masks: True is anomalous.
        thresholds: a pixel above one is found.
        filled: count the pixels that are found in a region's holes too, over the area without them.
    """
    from skimage.measure import label, regionprops

    pro, fpr = [], []
    for threshold in thresholds:
        found = maps > threshold
        overlaps = []
        for prediction, mask in zip(found, masks, strict=True):
            for region in regionprops(label(mask, connectivity=2)):
                box = prediction[region.slice]
                shape = region.image_filled if filled else region.image
                overlaps.append((box & shape).sum() / region.area)
        pro.append(np.mean(overlaps))
        fpr.append((found & ~masks).sum() / (~masks).sum())
    return np.array(pro), np.array(fpr)
