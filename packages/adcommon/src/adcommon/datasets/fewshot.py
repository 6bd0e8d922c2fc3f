"""Reference images for few-shot methods: drawn with a seed, written to a list, read back."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from adcommon.errors import BadValue, DatasetNotFound, EmptySplit
from adcommon.files import atomic_write
from adcommon.images import list_images
from adcommon.records import Record


def draw_references(source: Sequence[Record] | Path, shots: int, *, seed: int) -> list[Path]:
    """Draw `shots` different normal images.

    With one seed, fewer shots are the beginning of more shots: an 8-shot run extends the 4-shot run.

    Args:
        source: records, of which the normal ones are drawn from, or a folder of normal images.

    Raises:
        EmptySplit: the source has no normal images.
        BadValue: it has fewer than `shots`.
    """
    if isinstance(source, Path):
        images, where = list_images(source), str(source)
    else:
        images, where = [record.image for record in source if record.label == 0], "the training images"
    if not images:
        raise EmptySplit(f"no normal images in {where} to draw references from")
    if not 1 <= shots <= len(images):
        raise BadValue(
            f"shots is {shots}; {where} has {len(images)} normal images, expected 1 to {len(images)}"
        )
    order = np.random.default_rng(seed).permutation(len(images))
    return [images[index] for index in order[:shots]]


def write_references(path: Path, images: Iterable[Path], root: Path) -> None:
    """Write a list of reference images, one path below `root` a line, in order."""
    root = root.resolve()
    lines = []
    for image in images:
        if not image.resolve().is_relative_to(root):
            raise BadValue(f"{image} is not below {root}; a list of references holds paths below one folder")
        lines.append(image.resolve().relative_to(root).as_posix())
    atomic_write(path, "".join(f"{line}\n" for line in lines))


def read_references(path: Path, root: Path) -> list[Path]:
    """Read a list of reference images; empty lines and lines that begin with # are comments.

    Raises:
        DatasetNotFound: the list, or images that it names, are not there.
        EmptySplit: the list names no image.
    """
    if not path.is_file():
        raise DatasetNotFound(
            f"no list of reference images at {path}; write one with: uv run ad few-shot --help"
        )
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    images = [root / line for line in lines if line and not line.startswith("#")]
    if not images:
        raise EmptySplit(f"{path} names no images; expected one path below {root} a line")
    missing = [image for image in images if not image.is_file()]
    if missing:
        raise DatasetNotFound(
            f"{len(missing)} of {len(images)} images named in {path} are missing; the first is {missing[0]}\n"
            f"  Its paths are taken from {root}."
        )
    return images
