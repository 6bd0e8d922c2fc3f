"""`ad check`: everything that is wrong with a dataset on disk, in one report."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from adcommon.data.catalog import Dataset
from adcommon.data.check.content import check_content
from adcommon.data.check.tree import (
    Problem,
    check_categories,
    check_names,
    check_structure,
    check_unused,
    check_version,
)
from adcommon.data.sources.access import (
    category_folder,
    dtd_textures,
    find_dataset,
    find_own,
    scan_dataset,
)
from adcommon.data.sources.cifar10 import MD5, has_batches, md5_of, read_batch
from adcommon.data.sources.folder import OwnImages
from adcommon.data.sources.meaning import NOTHING, Meaning
from adcommon.data.sources.roots import find_root
from adcommon.data.sources.understood import left_over, understood
from adcommon.errors import UserError, unknown_name
from adcommon.io.listing import list_tree
from adcommon.types.records import Record, Split

logger = logging.getLogger(__name__)


def check(
    dataset: str,
    root: Path | None,
    categories: Sequence[str] = (),
    *,
    seed: int = 0,
    meaning: Meaning = NOTHING,
) -> list[Problem]:
    """Decode every image and mask of a dataset and list all problems, also beyond the first.

    Args:
        root: as for `load_records`, `seed` and `meaning` too.
        categories: only these; by default all.

    Raises:
        DatasetNotFound: there is nothing to check; also NotPrepared and UnknownName.
    """
    entry = find_dataset(dataset)
    own = find_own(entry, root, meaning)
    known = entry.categories if own is None else tuple(own.categories)
    problems: list[Problem] = []
    if own is None and not entry.embedded:
        folder = find_root(entry, root)
        if entry.layout == "textures":
            return list(_check_textures(entry, folder))
        if entry.layout == "cifar10" and has_batches(folder):
            return list(_check_batches(folder))
        if not categories and entry.layout != "medical":
            problems += check_categories(entry, folder)
    for name in categories or known:
        if name not in known + entry.extra_categories:
            raise unknown_name(f"category of '{dataset}'", name, known + entry.extra_categories)
        problems += _check_category(entry, root, name, seed, own)
    if own is not None:
        problems += check_unused(own.outside(), own.root.name)
    return problems


def _check_category(
    entry: Dataset, root: Path | None, category: str, seed: int, own: OwnImages | None
) -> Iterator[Problem]:
    folder = category_folder(entry, root, category, own)
    if folder is not None and not folder.exists():
        yield Problem("error", category, f"no folder {folder}")
        return
    try:
        scan = scan_dataset(entry, root, category, seed=seed, own=own)
    except UserError as error:
        yield Problem("error", category, str(error))
        return
    logger.info("%s", understood(category, scan, folder, seed))
    yield from check_structure(entry, scan, category)
    unused = scan.unused
    if folder is not None and folder.is_dir():
        yield from check_names(folder, category)
        if own is None:
            if entry.layout == "medical":
                yield from check_version(folder, category)
            unused = left_over(scan, folder)
    yield from check_unused(unused, category)
    yield from check_content(replace(scan.split, dataset=entry.name), category)


def _check_textures(entry: Dataset, folder: Path) -> Iterator[Problem]:
    textures = dtd_textures(folder)
    yield from check_unused(list_tree(folder / "images").passed_over, entry.name)
    yield from check_names(folder / "images", entry.name)
    yield from check_content(
        Split([Record(image, entry.name, 0) for image in textures], [], entry.name), entry.name
    )


def _check_batches(folder: Path) -> Iterator[Problem]:
    """CIFAR-10: that the batches are the official ones; their images are pixels and need no decoding."""
    for name, official in MD5.items():
        path = folder / name
        try:
            read_batch(path)
        except UserError as error:
            yield Problem("error", name, str(error), (path,))
            continue
        found = md5_of(path)
        if found != official:
            message = f"not the official file: MD5 {found}, expected {official}"
            yield Problem("warning", name, message, (path,))
