"""The same image where it must not be twice: in training and in test, among references and queries."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from filecmp import cmp
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from adcommon.data.messages import lines
from adcommon.errors import Leak
from adcommon.io.text import printable

_SIDE = 32
_NEAR = 0.9992
"""Correlation of two images of `_SIDE` pixels a side that are one picture, compressed again or brightened.

Measured: JPEG of quality 75 lies above 0.9996 and of quality 50 above 0.999, different photographs of aligned
products (cells, bottles, screws) lie below 0.9984."""
_BLOCK_ROWS = 4096

Pair = tuple[Path, Path]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells whether two images are the same or nearly so."""

    image: Path
    digest: bytes
    """Of the pixels, whatever file they come from."""
    grey: Float32[np.ndarray, " values"]
    """The image in small, with mean 0 and length 1, so that brightness and contrast do not count."""


def fingerprint(image: Path, pixels: UInt8[np.ndarray, "height width 3"]) -> Fingerprint:
    """The fingerprint of an image's pixels; those to compare are made alike."""
    small = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.float32).ravel()
    values = values - values.mean()
    return Fingerprint(image, pixel_digest(pixels), values / max(float(np.linalg.norm(values)), 1.0))


def pixel_digest(pixels: UInt8[np.ndarray, "*tiles height width 3"]) -> bytes:
    """Equal for equal pixels."""
    digest = blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(pixels.tobytes())
    return digest.digest()


def same_files(asked: Sequence[Path], known: Sequence[Path]) -> list[Pair]:
    """Each asked file with a known one of the same content."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in known:
        by_size[path.stat().st_size].append(path)
    pairs = ((path, other) for path in asked for other in by_size.get(path.stat().st_size, []))
    return [pair for pair in pairs if cmp(*pair, shallow=False)]


def find_copies(known: Sequence[Fingerprint], tested: Sequence[Fingerprint]) -> list[Pair]:
    """Each tested image with the known one whose pixels are equal."""
    by_digest = {item.digest: item.image for item in reversed(known)}
    return [(item.image, by_digest[item.digest]) for item in tested if item.digest in by_digest]


def find_near_copies(known: Sequence[Fingerprint], tested: Sequence[Fingerprint]) -> list[Pair]:
    """Each tested image with the known one that differs from it hardly, but differs."""
    if not known or not tested:
        return []
    of_tested = np.stack([item.grey for item in tested])
    best, nearest = np.zeros(len(tested)), np.zeros(len(tested), dtype=np.int64)
    for first in range(0, len(known), _BLOCK_ROWS):
        block = np.stack([item.grey for item in known[first : first + _BLOCK_ROWS]])
        for row in range(0, len(tested), _BLOCK_ROWS):
            some = slice(row, row + _BLOCK_ROWS)
            alike = of_tested[some] @ block.T
            better = alike.max(axis=1) > best[some]
            nearest[some] = np.where(better, first + alike.argmax(axis=1), nearest[some])
            best[some] = np.maximum(best[some], alike.max(axis=1))
    copies = {image for image, _ in find_copies(known, tested)}
    return [
        (item.image, known[int(place)].image)
        for item, place, value in zip(tested, nearest, best, strict=True)
        if value > _NEAR and item.image not in copies
    ]


def refuse_leak(pairs: Sequence[Pair], what: str, remedy: str) -> None:
    """Stop if there are pairs.

    Args:
        what: the two are: "test images are training images too".
        remedy: what to do.

    Raises:
        Leak: names them.
    """
    if pairs:
        raise Leak(f"{len(pairs)} {what}:{listed(pairs)}\n  {remedy}")


def listed(pairs: Sequence[Pair]) -> str:
    """The first pairs, each on a line."""
    return lines(
        printable(first) if first == second else f"{printable(first)} = {printable(second)}"
        for first, second in pairs
    )
