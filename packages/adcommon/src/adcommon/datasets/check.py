"""`ad check`: everything that is wrong with a dataset on disk, in one report."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from adcommon.datasets.access import (
    category_folder,
    count_differences,
    extra_masks,
    find_categories,
    find_dataset,
    missing_masks,
    scan_dataset,
)
from adcommon.datasets.catalog import Dataset
from adcommon.datasets.layouts import Scan
from adcommon.datasets.roots import find_root
from adcommon.errors import MaskSizeMismatch, UserError
from adcommon.images import open_image, open_mask
from adcommon.records import Record

Severity = Literal["error", "warning", "note"]

_JUNK = ("thumbs.db", "desktop.ini", "__macosx")
_SHOWN = 5
_THREADS = 8


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it should be."""

    severity: Severity
    """error: loading or measuring fails; warning: numbers may mislead; note: without effect."""
    category: str
    message: str
    paths: tuple[Path, ...] = ()
    """Every file concerned."""

    def __str__(self) -> str:
        """One line, or a few: "error: bottle: 2 masks ..." with the first of the files."""
        shown = "".join(f"\n    {path}" for path in self.paths[:_SHOWN])
        more = f"\n    and {len(self.paths) - _SHOWN} more" if len(self.paths) > _SHOWN else ""
        return f"{self.severity}: {self.category}: {self.message}{shown}{more}"


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What decoding one image and its mask showed."""

    record: Record
    digest: bytes = b""
    """Of the decoded pixels; empty if the image cannot be read."""
    unreadable: str = ""
    mismatch: str = ""
    empty_mask: bool = False


def check(
    dataset: str, root: Path | None, categories: tuple[str, ...] = (), *, seed: int = 0
) -> list[Problem]:
    """Decode every image and mask of a dataset and list all problems, also beyond the first.

    Args:
        dataset: name of the dataset.
        root: as for `load_records`.
        categories: only these; by default all.
        seed: as for `load_records`.

    Raises:
        DatasetNotFound: there is nothing to check; also NotPrepared and UnknownName.
    """
    entry = find_dataset(dataset)
    if entry.layout in ("category_folders", "medical"):
        find_root(entry, root)
    names = categories or find_categories(dataset, root)
    return [problem for name in names for problem in _check_category(entry, root, name, seed)]


def _check_category(entry: Dataset, root: Path | None, category: str, seed: int) -> Iterator[Problem]:
    folder = category_folder(entry, root, category)
    if folder is not None and not folder.is_dir():
        yield Problem("error", category, f"no folder {folder}")
        return
    try:
        scan = scan_dataset(entry, root, category, seed=seed)
    except UserError as error:
        yield Problem("error", category, str(error))
        return
    yield from _check_structure(entry, scan, category)
    if folder is not None:
        yield from _check_surroundings(folder, category)
    records = [*scan.split.train, *scan.split.test]
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        progress = tqdm(
            pool.map(_decode, records), total=len(records), desc=category, unit="image", disable=None
        )
        decoded = list(progress)
    yield from _check_content(decoded, category)
    yield from _check_duplicates(decoded, len(scan.split.train), category)


def _check_structure(entry: Dataset, scan: Scan, category: str) -> Iterator[Problem]:
    if not scan.split.train:
        yield Problem("error", category, "no normal training images")
    for label, kind in enumerate(("normal", "anomalous")):
        if label not in {record.label for record in scan.split.test}:
            severity: Severity = "warning" if entry.layout == "folder" else "error"
            yield Problem(severity, category, f"no {kind} test images: image AUROC cannot be computed")
    if scan.missing and (entry.pixel_truth or scan.has_masks):
        yield Problem("error", category, missing_masks(scan.missing, category), tuple(scan.missing))
    if scan.extra:
        yield Problem("warning", category, extra_masks(scan.extra, category), tuple(scan.extra))
    for difference in count_differences(entry, scan.split, category):
        yield Problem("warning", category, difference)


def _check_surroundings(folder: Path, category: str) -> Iterator[Problem]:
    junk = [
        path
        for path in sorted(folder.rglob("*"))
        if path.name.startswith(".") or path.name.casefold() in _JUNK
    ]
    if junk:
        yield Problem("note", category, f"{len(junk)} hidden or system files are passed over", tuple(junk))
    if (folder / "val").is_dir():
        yield Problem(
            "warning",
            category,
            "there is a folder val: an older version, with other test images",
            (folder / "val",),
        )


def _decode(record: Record) -> _Decoded:
    try:
        mask = None if record.mask is None or not record.mask.exists() else open_mask(record.mask)
        image = np.asarray(
            open_image(record.image, expected_size=mask.shape[::-1] if mask is not None else None)
        )
    except MaskSizeMismatch as error:
        return _Decoded(record, mismatch=f"{error}; mask: {record.mask}")
    except UserError as error:
        return _Decoded(record, unreadable=str(error))
    digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).digest()
    return _Decoded(record, digest, empty_mask=mask is not None and record.label == 1 and not mask.any())


def _check_content(decoded: list[_Decoded], category: str) -> Iterator[Problem]:
    unreadable = [item for item in decoded if item.unreadable]
    if unreadable:
        message = (
            f"{len(unreadable)} of {len(decoded)} images or masks cannot be read; {unreadable[0].unreadable}"
        )
        yield Problem("error", category, message, tuple(item.record.image for item in unreadable))
    mismatched = [item for item in decoded if item.mismatch]
    if mismatched:
        message = f"{len(mismatched)} masks have not the size of their image; {mismatched[0].mismatch}"
        yield Problem("error", category, message, tuple(item.record.image for item in mismatched))
    empty = tuple(item.record.image for item in decoded if item.empty_mask)
    if empty:
        yield Problem("warning", category, f"{len(empty)} anomalous images have an empty mask", empty)


def _check_duplicates(decoded: list[_Decoded], trained: int, category: str) -> Iterator[Problem]:
    """Images whose pixels are equal, across training and test images or across normal and anomalous ones."""
    copies: dict[bytes, list[int]] = defaultdict(list)
    for index, item in enumerate(decoded):
        if item.digest:
            copies[item.digest].append(index)
    leaked: list[Path] = []
    contradictory: list[Path] = []
    for indices in copies.values():
        images = [decoded[index].record.image for index in indices]
        if len({index < trained for index in indices}) == 2:
            leaked += images
        if len({decoded[index].record.label for index in indices}) == 2:
            contradictory += images
    if leaked:
        message = f"{len(leaked)} images are the same in training and test: the test is too easy"
        yield Problem("warning", category, message, tuple(leaked))
    if contradictory:
        message = f"{len(contradictory)} images are the same, once normal and once anomalous"
        yield Problem("warning", category, message, tuple(contradictory))
