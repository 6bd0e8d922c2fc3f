"""The user's own images: any folder that says, by its folders or by a list, which images are normal.

One category is a folder that holds, at any depth and in any case,

    train/good, test/good, test/<defect>, ground_truth/<defect>   as MVTec AD; without test, normals are split
    good, bad or bad/<defect> or <defect>, masks/<defect>         normals are split
    images                                                        all normal, split
    manifest.csv    or another list of `adcommon.data.lists.manifest`; the file itself may be given too

and a folder of such folders is a dataset of several categories. What names of folders mean stands in
`adcommon.data.sources.words`; what is unclear is an error that asks, and `Meaning` answers. A split leaves a
quarter of the normal images, drawn with a seed, for the test. A folder that has `test` but no `train` can
only be evaluated.
"""

import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from adcommon.data.lists.entries import Entry, to_splits
from adcommon.data.lists.manifest import entries_of, list_folders
from adcommon.data.sources.category import LOOSE, Category
from adcommon.data.sources.depth import refuse_coordinates
from adcommon.data.sources.layouts import Scan
from adcommon.data.sources.meaning import Meaning, Parts
from adcommon.data.sources.tree import Tree
from adcommon.errors import BadValue, DatasetNotFound
from adcommon.io.listing import UNREADABLE, describe, list_tree
from adcommon.io.text import printable
from adcommon.types.names import as_name, check_distinct

UNLISTED = "images that the list does not name"


class OwnImages:
    """A folder or a list of the user's own images, and the categories found there."""

    def __init__(self, root: Path, meaning: Meaning) -> None:
        """Look for lists, else for folders; no image is opened.

        Raises:
            DatasetNotFound: there are no images, or no such folder.
            BadValue: names of categories that are one on some systems, `meaning` names no folder, or
                coordinates lie beside the images.
        """
        if not root.exists():
            raise DatasetNotFound(
                f"no such folder: {root}\n  Expected a folder of images, or a list of them."
            )
        self.root = root
        self._entries = entries_of(root)
        self._tree: Tree | None = None
        if self._entries is None:
            self._tree = Tree(root, meaning)
            if not self._tree.listing.images:
                raise DatasetNotFound(_no_images(root, describe(self._tree.listing.passed_over)))
            refuse_coordinates(root, self._tree.images)
            self.categories = _named(self._tree.categories(), as_name(root.resolve().name))
        else:
            meaning.refuse_for(f"the list {root}")
            self.categories = dict.fromkeys((entry.category for entry in self._entries), ())
        check_distinct(self.categories, "categories")

    def folder(self, category: str) -> Path:
        """The folder that holds a category; of a list, the list."""
        return self.root.joinpath(*self.categories[category])

    def scan(self, category: str, *, seed: int) -> Scan:
        """Scan one category, without judging what was found.

        Args:
            seed: draws the normal images that test, where nothing says which they are.

        Raises:
            BadValue: it is unclear which images are normal; says what was seen, and asks.
            DatasetNotFound: a folder cannot be read.
        """
        if self._tree is None:
            return _scan_list(self.root, self._entries or [], category, seed)
        if unreadable := self._tree.listing.passed_over.get(UNREADABLE):
            raise DatasetNotFound(
                f"cannot read the folder {printable(unreadable[0])}\n  Make it readable, or remove it."
            )
        return Category(self._tree, self.categories[category], category).scan(seed)

    def outside(self) -> dict[str, list[Path]]:
        """What lies beside the folders of the categories and is not used, by reason in words."""
        if self._tree is None:
            return {}
        tree, inside = self._tree, list(self.categories.values())
        found: dict[str, list[Path]] = {}
        for folder, images in tree.images.items():
            if all(tree.place_in(folder, at) is None for at in inside):
                found.setdefault(LOOSE, []).extend(images)
        for reason, paths in tree.listing.passed_over.items():
            parts = {path: path.relative_to(self.root).parts for path in paths}
            left = [path for path in paths if not any(parts[path][: len(at)] == at for at in inside)]
            found |= {reason: left} if left else {}
        return found


def _scan_list(root: Path, entries: Sequence[Entry], category: str, seed: int) -> Scan:
    own = [entry for entry in entries if entry.category == category]
    split = to_splits(own, list_folders(root), seed=seed)[category]
    folder = root if root.is_dir() else root.parent
    named = {posixpath.normpath(name) for entry in entries for name in (entry.image, *entry.masks)}
    images = list_tree(folder).images
    left = [path for path in images if not {str(path), path.relative_to(folder).as_posix()} & named]
    drawn = any(entry.split == "" and entry.label == 0 for entry in own)
    return Scan(split, split.pixel_truth, unused={UNLISTED: left} if left else {}, drawn=drawn)


def _named(folders: Sequence[Parts], root: str) -> dict[str, Parts]:
    """The categories by name: the folder's own, or its path's where several folders have one name."""
    names = Counter(as_name(folder[-1]) for folder in folders if folder)
    called: dict[str, Parts] = {}
    for folder in folders:
        name = as_name(folder[-1]) if folder else root
        name = as_name("_".join(folder)) if names[name] > 1 else name
        if name in called:
            raise BadValue(f"two folders would be the category '{name}'; rename one of them")
        called[name] = folder
    return called


def _no_images(root: Path, passed_over: str) -> str:
    there = f"\n  Found: {passed_over}" if passed_over else ""
    return (
        f"no images found in {root}{there}\n"
        "  Expected images, or good/ with one folder per defect, or train/good and test/<defect>,\n"
        "  or one folder of such a form per category."
    )
