"""What preparers ask of a raw download: where it begins, which files are missing, what its masks hold."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
from cyclopts import Parameter
from jaxtyping import Bool
from PIL import Image
from tqdm import tqdm

from adcommon.data.catalog import DATASETS
from adcommon.data.messages import shorten
from adcommon.data.prepare.plan import Step
from adcommon.data.sources import splits
from adcommon.data.sources.layouts import subfolders
from adcommon.data.sources.roots import search
from adcommon.errors import BadValue, DatasetNotFound, unknown_name
from adcommon.io.images import open_image, open_mask

T = TypeVar("T")
S = TypeVar("S")

Categories = Annotated[
    tuple[str, ...], Parameter(alias="--category", consume_multiple=True, show_default=False)
]
"""The flag of a preparer that can make single categories."""


def refuse_unknown(categories: Sequence[str], known: Sequence[str], dataset: str) -> None:
    """Refuse a category that was asked for and that the dataset has not.

    Raises:
        UnknownName: the message has those that there are.
    """
    for name in categories:
        if name not in known:
            raise unknown_name(f"category of '{dataset}'", name, known)


Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, the last two excluded."""


def search_level(source: Path, mark: str) -> Path | None:
    """The folder that holds something that matches `mark`: `source`, or one or two levels below it."""
    level = [source]
    for _ in range(3):
        for folder in level:
            if any(folder.glob(mark)):
                return folder
        level = [below for folder in level for below in subfolders(folder)]
    return None


def find_level(source: Path, mark: str, dataset: str) -> Path:
    """The same, but none is an error.

    Raises:
        DatasetNotFound: says what was expected, and where to get it.
    """
    folder = search_level(source, mark)
    if folder is None:
        raise _another_download(source, mark, dataset)
    return folder


def unnested(folder: Path) -> Path:
    """The folder itself, or one of the same name in it: archives may be unpacked into their own folder."""
    nested = folder / folder.name
    return nested if nested.is_dir() else folder


def find_tree(source: Path, dataset: str) -> Path:
    """The folder of a dataset that is published in the layout that is read: `source`, or below it.

    Raises:
        DatasetNotFound: says what was expected, and where to get it.
    """
    entry = DATASETS[dataset]
    for folder in (source, *subfolders(source)):
        if (root := search(entry, folder)) is not None:
            return root
    raise _another_download(source, f"{(*entry.categories, 'images')[0]}/train", dataset)


def copies(category: str, parts: Mapping[str, Sequence[Path]]) -> list[Step]:
    """Steps that take images into the folders of a category as they are."""
    return [
        Step(f"{category}/{folder}/{image.name}", image)
        for folder, images in parts.items()
        for image in images
    ]


def _another_download(source: Path, mark: str, dataset: str) -> DatasetNotFound:
    entry = DATASETS[dataset]
    reason = f"it has no {mark}, nor has a folder in it" if source.is_dir() else "no such folder"
    get = f"  Get {entry.download or entry.title}\n{entry.page}"
    return DatasetNotFound(f"{source} is not the download of {entry.title}: {reason}\n{get}")


def quarter(normal: Sequence[T]) -> dict[str, list[T]]:
    """Normal images by the folder they go to: a quarter tests; InCTRL's split of the given order."""
    return dict(zip(("train/good", "test/good"), splits.quarter(normal), strict=True))


def decode_all(function: Callable[[S], T], sources: Sequence[S], what: str) -> list[T]:
    """Apply a function that decodes files to all of them, in parallel, in their order."""
    with ThreadPoolExecutor() as pool:
        results: Iterator[T] = pool.map(function, sources)
        return list(tqdm(results, total=len(sources), desc=what, unit="file", disable=None, leave=False))


def has_marks(mask: Path) -> bool:
    """True if a mask has a pixel above 0."""
    return bool(open_mask(mask).any())


def write_mask(source: Path, target: Path) -> None:
    """Rewrite a mask, or the union of a folder of masks: 8-bit PNG, one channel, 0 normal, 255 anomalous."""
    write_truth(source, target, mask=open_mask(source, by_index=True))


def write_truth(source: Path, target: Path, *, mask: Bool[np.ndarray, "height width"]) -> None:
    """Write a mask that was computed from `source`, in the same form."""
    Image.fromarray(mask.astype(np.uint8) * 255).save(target, format="PNG")


def write_tile(source: Path, target: Path, *, box: Box) -> None:
    """Write a part of an image as an RGB PNG; the tiles of one image should come one after the other."""
    status = source.stat()
    image = _decoded(source, status.st_size, status.st_mtime_ns)
    # Level 1 is four times as fast as the default on a grainy surface, for files of about the same size.
    image.crop(box).save(target, format="PNG", compress_level=1)


@lru_cache(maxsize=8)
def _decoded(path: Path, size: int, modified_ns: int) -> Image.Image:
    """An image, decoded once for all its tiles; size and date are there to tell states of a file apart."""
    return open_image(path)


class Listing:
    """Looks files up whatever the case of their letters, reading each folder once."""

    def __init__(self, root: Path) -> None:
        """Paths are looked up below `root`."""
        self.root = root.absolute()
        self.respelled: list[Path] = []
        """Files found under another spelling than asked for."""
        self.missing: list[Path] = []
        """Files asked for that are not there."""
        self._folders: dict[Path, dict[str, Path]] = {}

    def find(self, relative: str) -> Path | None:
        """The file, or None, which `missing` remembers.

        Raises:
            BadValue: the path leads out of the root.
        """
        wanted = self.root / relative
        if ".." in wanted.parts or not wanted.is_relative_to(self.root):
            raise BadValue(f"a table names a file outside of {self.root}: {relative}")
        if wanted.parent not in self._folders:
            entries = wanted.parent.iterdir() if wanted.parent.is_dir() else ()
            self._folders[wanted.parent] = {entry.name.casefold(): entry for entry in entries}
        found = self._folders[wanted.parent].get(wanted.name.casefold())
        if found is None:
            self.missing.append(wanted)
        elif found.name != wanted.name:
            self.respelled.append(found)
        return found


def refuse_missing(missing: list[Path], total: int, advice: str) -> None:
    """One error for all files of a download that are not there."""
    if missing:
        raise DatasetNotFound(f"{len(missing)} of {total} files are missing: {shorten(missing)}\n  {advice}")
