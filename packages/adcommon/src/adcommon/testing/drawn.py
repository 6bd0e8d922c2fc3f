"""Single files for tests: noise, masks with a box, lines of text."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (16, 12)
"""Width and height of images, pixels."""


def draw(path: Path, *, size: tuple[int, int] = SIZE, seed: int | None = None, mode: str = "RGB") -> None:
    """An image of noise; without a seed, one that depends on the path."""
    width, height = size
    noise = np.random.default_rng(sum(path.as_posix().encode()) if seed is None else seed)
    pixels = noise.integers(30, 226, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


def draw_mask(
    path: Path, box: tuple[int, int, int, int], *, size: tuple[int, int] = SIZE, value: int = 255
) -> None:
    """A grey mask with `value` in a box (left, top, right, bottom), 0 elsewhere."""
    mask = np.zeros(size[::-1], dtype=np.uint8)
    left, top, right, bottom = box
    mask[top:bottom, left:right] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def write_lines(path: Path, rows: Iterable[str]) -> None:
    """A text file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
