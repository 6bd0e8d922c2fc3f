"""What `ad check` reports, and what names of files and folders tell it before any image is decoded."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adcommon.data.catalog import Dataset
from adcommon.data.messages import lines
from adcommon.data.sources.access import count_differences, extra_masks, missing_masks
from adcommon.data.sources.layouts import Scan, subfolders
from adcommon.io.images import IMAGE_EXTENSIONS
from adcommon.types.records import Record

Severity = Literal["error", "warning", "note"]

_JUNK = ("thumbs.db", "desktop.ini", "__macosx")
_BESIDE_IMAGES = frozenset({".csv", ".json", ".txt", ".md", ".pdf"})
"""Suffixes of the files that a dataset may hold besides images without a word."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it should be."""

    severity: Severity
    """error: loading or measuring fails; warning: numbers may mislead; note: without effect."""
    category: str
    message: str
    paths: tuple[Path, ...] = ()
    """Every file concerned."""
    details: tuple[str, ...] = ()
    """What is said of each file, where there is more to say than its path."""

    def __str__(self) -> str:
        """One line, or a few: "error: bottle: 2 masks ..." with the first of the files."""
        return f"{self.severity}: {self.category}: {self.message}{lines(self.details or self.paths, 4)}"


def check_categories(entry: Dataset, root: Path) -> Iterator[Problem]:
    """Folders beside the known categories that look like further ones."""
    known = {*entry.categories, *entry.extra_categories}
    for folder in subfolders(root):
        if folder.name not in known and ((folder / "train").is_dir() or (folder / "test").is_dir()):
            message = f"no category of {entry.title}; it is passed over"
            yield Problem("warning", folder.name, message, (folder,))


def check_structure(entry: Dataset, scan: Scan, category: str) -> Iterator[Problem]:
    """Splits without images, masks without images and the reverse, and counts that differ."""
    for wrong in scan.wrong:
        yield Problem("error", category, wrong)
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
    yield from _check_shared_masks([*scan.split.train, *scan.split.test], category)


def check_surroundings(folder: Path, category: str) -> Iterator[Problem]:
    """Hidden files, files that are no images, links that lead nowhere, names that differ only in case."""
    found: dict[str, list[Path]] = defaultdict(list)
    unreadable: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=lambda e: unreadable.append(Path(e.filename))):
        paths = [Path(parent, name) for name in sorted([*folders, *files])]
        folders[:] = [name for name in folders if not _is_junk(name)]
        for path in paths:
            if _is_junk(path.name):
                found["junk"].append(path)
            elif path.is_symlink() and not path.exists():
                found["dangling"].append(path)
            elif path.name in files and path.suffix.lower() not in IMAGE_EXTENSIONS | _BESIDE_IMAGES:
                found["other"].append(path)
        folded = Counter(path.name.casefold() for path in paths)
        found["case"] += [path for path in paths if folded[path.name.casefold()] > 1]
    kinds: list[tuple[Severity, str, list[Path]]] = [
        ("error", "folders that cannot be read", unreadable),
        ("error", "links that lead nowhere", found["dangling"]),
        ("warning", "names that differ only in case: Windows and macOS lose files", found["case"]),
        ("note", "files that are no images are passed over", found["other"]),
        ("note", "hidden or system files are passed over", found["junk"]),
    ]
    for severity, what, paths in kinds:
        if paths:
            yield Problem(severity, category, f"{len(paths)} {what}", tuple(paths))
    if (folder / "val").is_dir():
        message = "there is a folder val: an older version, with other test images"
        yield Problem("warning", category, message, (folder / "val",))


def _check_shared_masks(records: Iterable[Record], category: str) -> Iterator[Problem]:
    by_mask: dict[Path, list[Path]] = defaultdict(list)
    for record in records:
        if record.mask is not None:
            by_mask[record.mask].append(record.image)
    shared = [image for images in by_mask.values() if len(images) > 1 for image in images]
    if shared:
        message = "images have the mask of another image: their names differ in the suffix only"
        yield Problem("warning", category, f"{len(shared)} {message}", tuple(shared))


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _JUNK
