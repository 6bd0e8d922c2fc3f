"""What `ad check` reports, and what names of files and folders tell it before any image is decoded."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adcommon.data.catalog import Dataset
from adcommon.data.messages import lines
from adcommon.data.sources.access import count_differences, extra_masks, missing_masks
from adcommon.data.sources.category import VALIDATION
from adcommon.data.sources.folder import UNLISTED
from adcommon.data.sources.layouts import UNLABELLED, Scan, subfolders
from adcommon.data.sources.understood import NOT_USED
from adcommon.io.listing import DANGLING, JUNK, UNKNOWN, UNREADABLE, list_tree
from adcommon.io.text import printable
from adcommon.types.records import Record

Severity = Literal["error", "warning", "note"]

_ERRORS = (DANGLING, UNREADABLE)
_NOTES = (JUNK, NOT_USED, UNKNOWN, UNLABELLED, UNLISTED, VALIDATION)
"""What lies in a folder without effect; all else that is not used may be a mistake."""


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
        where = lines(self.details or self.paths, 4)
        return _written(f"{self.severity}: {self.category}: {self.message}{where}")

    def as_facts(self) -> dict[str, object]:
        """The same for a JSON file, with every path."""
        return {
            "severity": self.severity,
            "category": self.category,
            "message": _written(self.message),
            "paths": [printable(path) for path in self.paths],
            "details": [_written(text) for text in self.details],
        }


def _written(text: str) -> str:
    """Text as any terminal and file takes it."""
    return text.encode("utf-8", "backslashreplace").decode()


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
        yield Problem("warning", category, extra_masks(scan.extra), tuple(scan.extra))
    for difference in count_differences(entry, scan, category):
        yield Problem("warning", category, difference)
    yield from _check_shared_masks([*scan.split.train, *scan.split.test], category)


def check_unused(unused: Mapping[str, Sequence[Path]], category: str) -> Iterator[Problem]:
    """What lies in the dataset's folder and is not used, with the reason."""
    for reason, paths in unused.items():
        severity: Severity = "error" if reason in _ERRORS else "warning"
        if reason.startswith(_NOTES):
            severity = "note"
        yield Problem(severity, category, f"not used: {len(paths)} {reason}", tuple(paths))


def check_names(folder: Path, category: str) -> Iterator[Problem]:
    """Names that differ only in case."""
    listing = list_tree(folder)
    paths = {*listing.images, *(path for found in listing.passed_over.values() for path in found)}
    paths |= {parent for path in paths for parent in path.parents if parent.is_relative_to(folder)}
    folded = Counter(str(path).casefold() for path in paths)
    if twins := sorted(path for path in paths if folded[str(path).casefold()] > 1):
        message = f"{len(twins)} names that differ only in case: Windows and macOS lose files"
        yield Problem("warning", category, message, tuple(twins))


def check_version(folder: Path, category: str) -> Iterator[Problem]:
    """A folder that tells an older version of a dataset."""
    if (folder / "val").is_dir():
        message = "there is a folder val: an older version, with other test images"
        yield Problem("warning", category, message, (folder / "val",))


def _check_shared_masks(records: Sequence[Record], category: str) -> Iterator[Problem]:
    listed = Counter(record.image for record in records)
    if twice := [image for image, count in listed.items() if count > 1]:
        yield Problem("warning", category, f"{len(twice)} images are listed more than once", tuple(twice))
    by_mask: dict[Path, set[Path]] = defaultdict(set)
    for record in records:
        if record.mask is not None:
            by_mask[record.mask].add(record.image)
    shared = sorted(image for images in by_mask.values() if len(images) > 1 for image in images)
    if shared:
        message = "images have the mask of another image: their names differ in the suffix only"
        yield Problem("warning", category, f"{len(shared)} {message}", tuple(shared))
