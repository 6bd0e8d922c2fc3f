"""What lies in a folder: its images, at any depth, and everything else with the reason why it is not read."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adcommon.io.files import MARKER
from adcommon.io.images import is_image
from adcommon.io.text import printable as printable

DANGLING = "links that lead nowhere"
UNREADABLE = "folders that cannot be read"
JUNK = "hidden or system files"
_HEIC = "HEIC photographs, which need pillow-heif (uv pip install 'adcommon[heic]')"
_WRITTEN = "folders that this product wrote"
_LINKED = "links to folders, which are not followed"
_SPECIAL = "names of images that are no regular files"
_POINTS = "point clouds (depth and 3D are not supported)"
UNKNOWN = "files of an unknown kind"
_SHOWN = 3

_HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".avif"})
_JUNK_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"})
_BESIDE_IMAGES = frozenset(
    {".csv", ".json", ".jsonl", ".txt", ".md", ".pdf", ".xml", ".yaml", ".yml", ".html", ".log"}
)
"""Suffixes of the files that lie beside images in any dataset, not worth a word."""
_RESULTS = ("recipe.yaml", "results.json", "predictions.csv")
"""Files of which every run, evaluation and prediction leaves one in its folder."""
_WITHOUT_SUFFIX = ("readme", "license", "licence", "copying", "checksums")


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a folder."""

    images: list[Path] = field(default_factory=list)
    """At any depth, sorted by path in code-point order."""
    passed_over: dict[str, list[Path]] = field(default_factory=dict)
    """Reason in words -> the files and folders that are not read; the reasons that matter most come first."""


def list_tree(folder: Path, *, without: Sequence[Path] = ()) -> Listing:
    """List a folder at any depth; links to folders are not followed.

    Args:
        without: folders that are left out, with all below them.
    """
    left_out = [path.resolve() for path in without]
    if any(folder.resolve().is_relative_to(path) for path in left_out):
        return Listing()
    images: list[Path] = []
    found: dict[str, list[Path]] = defaultdict(list)
    for path, reason in _walk(folder, left_out):
        (images if reason is None else found[reason]).append(path)
    order = {_HEIC: 0, UNREADABLE: 1, DANGLING: 2, _LINKED: 3, _SPECIAL: 4, _WRITTEN: 6, JUNK: 7}
    reasons = sorted(found, key=lambda reason: (order.get(reason, 5), reason))
    return Listing(_sorted(images), {reason: _sorted(found[reason]) for reason in reasons})


def describe(passed_over: Mapping[str, Sequence[Path]]) -> str:
    """A line for each reason: how many, and the first of them; "" if nothing was passed over.

    >>> describe({"links that lead nowhere": [Path("parts/a.png"), Path("parts/b.png")]})
    '2 links that lead nowhere: parts/a.png, parts/b.png'
    """
    lines = []
    for reason, paths in passed_over.items():
        first = ", ".join(map(printable, paths[:_SHOWN])) + (", ..." if len(paths) > _SHOWN else "")
        lines.append(f"{len(paths)} {reason}: {first}")
    return "\n".join(lines)


def is_junk(name: str) -> bool:
    """True for what operating systems leave in folders, and for what is hidden."""
    return name.startswith((".", "__MACOSX")) or name.casefold() in _JUNK_NAMES


def _walk(folder: Path, left_out: Sequence[Path]) -> Iterator[tuple[Path, str | None]]:
    """Every file and each folder that is not entered, with the reason why; images have none."""
    unreadable: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=lambda error: unreadable.append(_named(error))):
        entered = []
        for name in folders:
            path = Path(parent, name)
            if is_junk(name) or name.startswith("__"):
                yield path, JUNK
            elif path.is_symlink():
                yield path, _LINKED
            elif (path / MARKER).exists() and any((path / name).exists() for name in _RESULTS):
                yield path, _WRITTEN
            elif not left_out or path.resolve() not in left_out:
                entered.append(name)
        folders[:] = entered
        for name in files:
            path = Path(parent, name)
            if is_image(path):
                yield path, None
            elif name != MARKER and (reason := _reason(path)):
                yield path, reason
    for path in unreadable:
        yield path, UNREADABLE


def _reason(path: Path) -> str | None:
    """Why a file that is no image is not read; None for what needs no word."""
    if is_junk(path.name):
        return JUNK
    suffix = path.suffix.lower()
    if path.is_symlink() and not path.exists():
        return DANGLING
    if not path.is_file():
        return _SPECIAL
    if suffix in _HEIC_SUFFIXES:
        return _HEIC
    if suffix in (".pcd", ".ply"):
        return _POINTS
    if suffix in _BESIDE_IMAGES or path.stem.casefold().startswith(_WITHOUT_SUFFIX):
        return None
    return f"{UNKNOWN}, {printable(suffix) or 'without a suffix'}"


def _named(error: OSError) -> Path:
    return Path(os.fsdecode(error.filename))


def _sorted(paths: list[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.as_posix())
