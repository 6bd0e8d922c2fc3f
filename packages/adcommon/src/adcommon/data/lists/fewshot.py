"""Reference images for few-shot methods: drawn with a seed, written to a list, read back."""

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import indent

import numpy as np

from adcommon.data.lists.entries import find_listed, listed_path
from adcommon.data.sources.words import said_by
from adcommon.errors import BadValue, DatasetNotFound, EmptySplit
from adcommon.io.files import atomic_write
from adcommon.io.listing import describe, list_tree
from adcommon.types.records import Record, Split

logger = logging.getLogger(__name__)


def draw_references(source: Sequence[Record] | Path, shots: int, *, seed: int) -> list[Path]:
    """Draw `shots` different normal images.

    With one seed, fewer shots are the beginning of more shots: an 8-shot run extends the 4-shot run.

    Args:
        source: records, of which the normal ones are drawn from, or a folder of normal images, at any depth.

    Raises:
        EmptySplit: the source has no normal images.
        BadValue: it has fewer than `shots`, or folders of other images.
    """
    if isinstance(source, Path):
        images, where = _normal_images(source), str(source)
    else:
        images, where = [record.image for record in source if record.label == 0], _place_of(source)
    _refuse_too_few(len(images), where, shots)
    order = np.random.default_rng(seed).permutation(len(images))
    return [images[index] for index in order[:shots]]


def refuse_too_few(splits: Iterable[Split], shots: int) -> None:
    """Refuse categories that `draw_references` could not draw from, before any work."""
    for split in splits:
        _refuse_too_few(sum(record.label == 0 for record in split.train), _place_of(split.train), shots)


def _normal_images(folder: Path) -> list[Path]:
    """All images below a folder, none of which may be called anomalous or a mask."""
    listing = list_tree(folder)
    for image in listing.images:
        for name in image.relative_to(folder).parts[:-1]:
            if said_by(name).kind in ("bad", "damage", "unclear", "masks"):
                raise BadValue(
                    f"{folder} holds {name}, whose images are not normal by that name\n"
                    "  Pass the folder of the normal images alone."
                )
    if listing.passed_over:
        logger.warning("references in %s, not used:\n%s", folder, indent(describe(listing.passed_over), "  "))
    return listing.images


def _place_of(records: Sequence[Record]) -> str:
    return f"the training images of '{records[0].category}'" if records else "the training images"


def _refuse_too_few(found: int, where: str, shots: int) -> None:
    if not found:
        raise EmptySplit(f"no normal images in {where} to draw references from")
    if not 1 <= shots <= found:
        raise BadValue(
            f"too few normal images for references in {where}: {found}, and shots is {shots}; use --shots "
            f"{found}, or fewer"
        )


def write_references(path: Path, images: Iterable[Path], root: Path) -> None:
    """Write a list of reference images, one path a line, in order: below `root`, elsewhere absolute.

    Raises:
        BadValue: a name that a line of text cannot hold.
    """
    lines = [listed_path(image, root) for image in images]
    for line in lines:
        if line.strip() != line or line.startswith("#") or line.splitlines() != [line]:
            raise BadValue(f"rename the image {line!r}: a list of references cannot hold its name")
    atomic_write(path, os.fsencode("".join(f"{line}\n" for line in lines)))


def read_references(path: Path, root: Path) -> list[Path]:
    """Read a list of reference images below `root`; empty lines and lines that begin with # are comments.

    Raises:
        DatasetNotFound: the list, or images that it names, are not there.
        EmptySplit: the list names no image.
        BadValue: a path leaves `root`.
    """
    if not path.is_file():
        raise DatasetNotFound(
            f"no list of reference images at {path}; write one with: uv run ad few-shot --help"
        )
    lines = [line.strip() for line in os.fsdecode(path.read_bytes()).splitlines()]
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line and line[0] != "#"]
    if not numbered:
        raise EmptySplit(f"{path} names no images; expected one path below {root} a line")
    images = [find_listed(line, [root], f"{path}, line {number}") for number, line in numbered]
    found = [image for image in images if image is not None and image.is_file()]
    if len(found) < len(images):
        lost = (line for (_, line), image in zip(numbered, images, strict=True) if image not in found)
        first = root / next(lost)
        raise DatasetNotFound(
            f"{len(images) - len(found)} of {len(images)} images named in {path} are missing; "
            f"the first is {first}\n  Its paths are taken from {root}."
        )
    return found
