"""What `ad datasets` says: the facts about a dataset, and what of it is on this machine. Reads no image."""

import os
from pathlib import Path, PurePath

from adcommon.data.catalog import Dataset
from adcommon.data.sources.access import locate
from adcommon.data.sources.cifar10 import has_batches
from adcommon.io.images import IMAGE_EXTENSIONS

_NO_IMAGES = ("ground_truth", "ground_truth_channels", "gt", "original")
"""Folders of masks, and of a raw download that lies in the prepared tree."""


def summarise(entry: Dataset, root: Path) -> str:
    """Two lines of text: what the dataset is, and what of it is on this machine."""
    categories = f"{len(entry.categories)} categories" if len(entry.categories) > 1 else "1 category"
    facts = [entry.title, categories if entry.categories else "", "masks" if entry.pixel_truth else ""]
    facts += [f"licence: {entry.licence}", ", ".join(entry.papers)]
    return f"{entry.name:<11} {'; '.join(filter(None, facts))}\n{'':<11} on disk: {found(entry, root)}"


def describe(entry: Dataset, root: Path) -> str:
    """Everything that is known of a dataset, one fact a line."""
    facts = {
        "on disk": found(entry, root),
        "categories": " ".join(entry.categories),
        "also": " ".join(entry.extra_categories),
        "masks": "yes" if entry.pixel_truth else "no",
        "download": entry.download,
        "prepare": entry.preparer and f"ad prepare {entry.preparer}",
        "page": entry.url,
        "licence": entry.licence,
        "citation": entry.citation,
        **entry.uses,
    }
    lines = [f"  {name:<11} {fact}" for name, fact in facts.items() if fact]
    return "\n".join([f"{entry.name}: {entry.title}", *lines])


def found(entry: Dataset, root: Path) -> str:
    """Where a dataset lies and how many images it has, or what to do to have it.

    >>> from adcommon.data.catalog import DATASETS
    >>> found(DATASETS["mpdd"], Path("nowhere"))
    'not found below nowhere'
    """
    if entry.layout == "folder":
        return "any folder, given with --data"
    folder = locate(entry, root)
    if folder is None or not folder.is_dir():
        drawn = entry.layout == "synthetic"
        return "not yet, drawn when it is asked for" if drawn else f"not found below {root}"
    if entry.layout == "cifar10" and has_batches(folder):
        return f"{folder}, as batches"
    return f"{folder}, {count_images(folder)} images"


def count_images(folder: Path) -> int:
    """How many image files lie below a folder; masks and hidden folders do not count."""
    count = 0
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NO_IMAGES and not name.startswith(".")]
        visible = (name for name in files if not name.startswith("."))
        count += sum(PurePath(name).suffix.lower() in IMAGE_EXTENSIONS for name in visible)
    return count
