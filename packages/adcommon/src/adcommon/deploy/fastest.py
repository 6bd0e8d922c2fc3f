"""Which of two runtimes computes a graph sooner on this machine, measured; only if both compute the same."""

import logging
import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from adcommon.deploy.contract import Session
from adcommon.errors import WrongCheckpoint

logger = logging.getLogger(__name__)

LARGEST_DIFFERENCE = 1e-3
"""Between two runtimes, as a share of the largest value that the judge gives."""
SECONDS = 1.0
"""That the measurement may take."""
_chosen: dict[object, bool] = {}
"""Whether the other one was taken, by the graph and how it is computed; for this process."""


def faster(
    judge: Session,
    other: Callable[[], Session],
    names: Sequence[str],
    pixels: np.ndarray,
    where: str,
    key: object,
) -> Session | None:
    """OpenVINO's session if it gives what onnxruntime's gives, in less time; else None.

    Args:
        judge: onnxruntime's.
        other: builds OpenVINO's.
        names: of the outputs.
        pixels: one batch.
        key: of the graph and how it is computed; the choice is made once.
    """
    if _chosen.get(key) is False:
        return None
    try:
        session = other()
        if key not in _chosen:
            _chosen[key] = _is_faster(judge, session, names, pixels, where)
        return session if _chosen[key] else None
    except WrongCheckpoint as error:
        logger.warning("onnxruntime is taken; %s", error)
        _chosen[key] = False
        return None


def _is_faster(judge: Session, other: Session, names: Sequence[str], pixels: np.ndarray, where: str) -> bool:
    differences = [
        float(np.abs(theirs - ours).max() / max(float(np.abs(ours).max()), np.finfo(np.float32).tiny))
        for ours, theirs in zip(*(one.run(names, {"pixels": pixels}) for one in (judge, other)), strict=True)
    ]
    largest = float(np.max(differences))  # NaN if one of them is
    if not largest <= LARGEST_DIFFERENCE:
        logger.warning(
            "%s: onnxruntime is taken, for OpenVINO's outputs differ by %.1e of the largest; allowed is %.0e",
            where,
            largest,
            LARGEST_DIFFERENCE,
        )
        return False
    taken: dict[str, list[float]] = {"onnxruntime": [], "OpenVINO": []}
    end = time.perf_counter() + SECONDS
    while not taken["OpenVINO"] or time.perf_counter() < end:  # in turn, so that both meet the same load
        for seconds, session in zip(taken.values(), (judge, other), strict=True):
            began = time.perf_counter()
            session.run(names, {"pixels": pixels})
            seconds.append(time.perf_counter() - began)
    each = {name: 1000 * median(seconds) / len(pixels) for name, seconds in taken.items()}
    first = min(each, key=each.__getitem__)
    logger.info(
        "%s: %s is taken; %s ms an image",
        where,
        first,
        ", ".join(f"{name} {ms:.1f}" for name, ms in each.items()),
    )
    return first == "OpenVINO"


def smooth_pixels(count: int, size: int) -> UInt8[np.ndarray, "count size size 3"]:
    """Soft colours with noise on them: neither constant nor noise alone."""
    rng = np.random.default_rng(0)
    soft = [
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
            (size, size), Image.Resampling.BILINEAR
        )
        for _ in range(count)
    ]
    noisy = np.stack([np.asarray(image) for image in soft]) + rng.normal(0, 20, (count, size, size, 3))
    return noisy.clip(0, 255).astype(np.uint8)
