"""Where datasets lie: found by their usual folders, or missed with a message that says what to do."""

from collections.abc import Iterator
from pathlib import Path

from adcommon.data.catalog import Dataset
from adcommon.data.sources.cifar10 import has_batches
from adcommon.data.sources.layouts import is_normal, subfolders
from adcommon.errors import DatasetNotFound, NotPrepared

_EXAMPLES = {
    "medical": "folders such as train/NORMAL",
    "textures": "folders such as images/banded",
    "cifar10": "data_batch_1 to data_batch_5 and test_batch",
}
"""What the root of a dataset holds, where it is not a folder for each category."""


def find_root(entry: Dataset, root: Path | None) -> Path:
    """The folder of a prepared dataset: `root` itself, or one of its usual names below it."""
    root = given(entry, root)
    found = search(entry, root)
    if found is not None:
        return found
    raw = next(
        (folder for folder in _around(root) for mark in entry.raw_marks if any(folder.glob(mark))), None
    )
    if raw is not None:
        raise NotPrepared(
            f"this is the raw {entry.title} download: {raw}\n  Run: {_prepare_command(entry, raw, root)}"
        )
    raise DatasetNotFound(_where_to_get(entry, root))


def search(entry: Dataset, root: Path) -> Path | None:
    """The folder of a prepared dataset, or None."""
    return next((folder for folder in _candidates(entry, root) if _holds(entry, folder)), None)


def given(entry: Dataset, root: Path | None) -> Path:
    """The root; none is an error that names the flag."""
    if root is None:
        raise DatasetNotFound(f"where is {entry.title}? Pass --data-root DIR, or set AD_DATA to that folder.")
    return root


def _holds(entry: Dataset, folder: Path) -> bool:
    """True if `folder` is a prepared tree of this dataset."""
    match entry.layout:
        case "medical":
            return any(is_normal(source) for source in subfolders(folder / "train"))
        case "textures":
            return bool(subfolders(folder / "images"))
        case "cifar10" if has_batches(folder):
            return True
    categories = (*entry.categories, *entry.extra_categories)
    return any((folder / category / "train").is_dir() for category in categories)


def _candidates(entry: Dataset, root: Path) -> Iterator[Path]:
    """`root` and the dataset's usual folders below it, each also nested once in a folder of the same name."""
    for folder in (root, *(_below(root, name) for name in entry.folders)):
        if folder is not None:
            yield folder
            yield folder / folder.name


def _below(root: Path, relative: str) -> Path | None:
    """The folder `relative` below `root`, whatever the case of its letters."""
    folder = root
    for name in relative.split("/"):
        matches = [child for child in subfolders(folder) if child.name.casefold() == name.casefold()]
        if not matches:
            return None
        folder = matches[0]
    return folder


def _around(root: Path) -> list[Path]:
    """`root` and what lies one level below it, and two levels below in a folder `original`."""
    children = subfolders(root)
    return [root, *children, *(child / "original" for child in children)]


def _where_to_get(entry: Dataset, root: Path) -> str:
    example = _EXAMPLES.get(entry.layout) or f"folders such as {entry.categories[0]}/train/good"
    lines = [f"{entry.title} not found at {root}" + ("" if root.is_dir() else " (no such folder)")]
    lines.append(f"  Expected {example} there or in {root / entry.folder}.")
    seen = next((folder for folder in _nearby(entry, root) if _holds(entry, folder)), None)
    if seen is not None:
        lines.append(f"  Found it at {seen}: pass --data-root {seen}")
        return "\n".join(lines)
    lines += [f"  Get {entry.download}.", entry.page]
    if entry.preparer is not None:
        lines.append(f"  Then run: {_prepare_command(entry, Path('DOWNLOAD'), root)}")
    lines.append(f"  Then run: uv run ad check {entry.name} --data-root {root}")
    return "\n".join(lines)


def _prepare_command(entry: Dataset, raw: Path, root: Path) -> str:
    save = root / entry.folder.split("/")[0]
    return f"uv run ad prepare {entry.preparer} --source {raw} --target {save}"


def _nearby(entry: Dataset, root: Path) -> Iterator[Path]:
    """One level down and one up; a medical tree looks like any other, so only its usual name counts."""
    usual = {name.casefold() for names in entry.folders for name in names.split("/")}
    for start in (*subfolders(root), root.parent):
        for folder in _candidates(entry, start):
            if entry.layout != "medical" or folder.name.casefold() in usual:
                yield folder
