"""The folders below a user's folder that hold images, and what each says of them."""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from adcommon.data.sources.meaning import Meaning, Parts
from adcommon.data.sources.words import OPPOSITES, Kind, Said, beside_masks, is_about_images, plain, said_by
from adcommon.errors import BadValue
from adcommon.io.listing import Listing, list_tree
from adcommon.io.text import printable

_DECIDING = ("good", "bad", "damage", "unclear")
_SPLITS = ("train", "test", "val")


@dataclass(frozen=True, slots=True)
class Place:
    """What the folders from a category's down to an image say of it."""

    label: Kind
    """good, bad, masks; "unclear": it contradicts itself; "other": nothing says it."""
    sure: bool
    """False for good by a word among others ("IO board"), and for bad by a name that may be any defect's."""
    defect: str
    split: Kind
    """train, test, val; "other": none is said."""
    key: Parts
    """What tells it from its siblings and masks repeat: no splits, nothing that only says images or masks."""
    named: Parts
    """Of the key, the names of defects."""
    source: Parts
    """The folder that said it."""
    of_normal: bool = False
    """Of masks: those of normal images."""

    def as_masks(self) -> "Place":
        """That of a mask which lies beside its image."""
        return replace(self, label="masks", of_normal=self.label == "good")


class Tree:
    """All images below a folder, by folder."""

    def __init__(self, root: Path, meaning: Meaning) -> None:
        """List the folder.

        Raises:
            BadValue: `meaning` names a folder that is not there.
        """
        self.root = root
        self.meaning = meaning.relative_to(root)
        self.listing: Listing = list_tree(root)
        self.images: dict[Parts, list[Path]] = defaultdict(list)
        self.children: dict[Parts, set[str]] = defaultdict(set)
        for image in self.listing.images:
            folder = image.relative_to(root).parts[:-1]
            self.images[folder].append(image)
            for depth in range(len(folder)):
                self.children[folder[:depth]].add(folder[depth])
        self._refuse_unknown()
        self._is_structured = lru_cache(maxsize=None)(self._look_for_structure)

    def below(self, folder: Parts) -> list[Parts]:
        """The folders directly below that have images, at any depth, sorted."""
        return [(*folder, name) for name in sorted(self.children.get(folder, ()))]

    def said(self, folder: Parts, category: Parts = ()) -> Said:
        """What a folder says: the user's word, else its name's."""
        told = self.meaning.of(folder, category)
        return Said(told) if told else said_by(folder[-1])

    def categories(self, at: Parts = ()) -> list[Parts]:
        """The folders of the categories, sorted."""
        below = self.below(at)
        inner = [folder for folder in below if self.said(folder).kind != "masks" or self._is_divided(folder)]
        structured = [folder for folder in inner if self._is_structured(folder)]
        loose = bool(self.images.get(at)) or len(inner) < len(below)
        if any(map(self._decides, below)) or self.meaning.of(at) or (loose and not structured):
            return [at]
        if len(inner) < len(below) and all(is_about_images(folder[-1]) for folder in inner):
            return [at]
        if {folder[-1].casefold() for folder in inner} in OPPOSITES:
            return [at]
        found = [self.categories(folder) if folder in structured else [folder] for folder in inner]
        return [folder for folders in found for folder in folders]

    def place_in(self, folder: Parts, category: Parts) -> Place | None:
        """What a folder of a category says, or one of masks above the categories; None: it is another's."""
        if folder[: len(category)] == category:
            return self.place(folder, category)
        for depth in range(len(category)):
            above, inner, rest = folder[: depth + 1], folder[depth + 1 :], category[depth:]
            if folder[:depth] == category[:depth] and inner[: len(rest)] == rest:
                if self.said(above).kind == "masks":
                    return self.place((*category, above[-1], *inner[len(rest) :]), category)
        return None

    def place(self, folder: Parts, category: Parts) -> Place:
        """What all folders from the category's down to this one say together.

        A good folder stays good in whatever lies below it, a bad one is refined by names of defects; good
        below bad or the reverse is unclear, unless the user said it of the lower one.
        """
        label: Kind = "other"
        split: Kind = "other"
        defect, sure, generic, source = category[-1] if category else "", True, True, category
        of_normal = False
        key, named = [], []
        for depth in range(len(category) + 1, len(folder) + 1):
            here, name = folder[:depth], folder[depth - 1]
            said = said_by(name)
            split = said.split if split == "other" else split
            user = self.meaning.of(here, category)
            if user == "masks" or (said.kind == "masks" and user is None):
                of_normal = label == "good"
                label, source = "masks", here
                if user is None and (defect := beside_masks(name)):
                    key.append(defect)
                    named.append(defect)
                continue
            if not (said.kind in _SPLITS or is_about_images(name)):
                key.append(plain(name))
            named += [plain(name)] if said.kind in ("other", "damage") else []
            if label == "masks":
                of_normal = of_normal or said.kind == "good"
                continue
            if user is not None:
                label, sure, source, defect = user, True, here, name
                generic = said.kind not in ("other", "damage")
            elif said.kind in ("good", "unclear") and label != "good":
                label = said.kind if label == "other" else "unclear"
                sure, source = said.sure, here
            elif said.kind in ("bad", "damage") and label == "good":
                label, source = "unclear", here
            elif said.kind in ("bad", "damage", "other") and label != "good" and generic:
                sure = said.kind != "other" or (label == "bad" and sure)
                label = "bad" if label == "other" else label
                defect, generic, source = name, said.kind == "bad", here
        if label == "other":
            label = self.meaning.of(category, category) or label
        return Place(label, sure, defect, split, tuple(key), tuple(named), source, of_normal)

    def _decides(self, folder: Parts) -> bool:
        """True for a folder that makes its parent a category; a product may have any name, too."""
        said = self.said(folder)
        if said.kind in _SPLITS:
            return True
        certain = said.sure and said.kind in ("good", "bad")
        return said.kind in _DECIDING and (certain or not self._is_structured(folder))

    def _is_divided(self, folder: Parts) -> bool:
        """True for a product that has the name of masks: label/train."""
        return any(said_by(child[-1]).kind in _SPLITS for child in self.below(folder))

    def _look_for_structure(self, folder: Parts) -> bool:
        """True if folders somewhere below it say which images are normal."""
        return any(self._decides(child) or self._is_structured(child) for child in self.below(folder))

    def _refuse_unknown(self) -> None:
        for flag in ("good", "bad", "masks"):
            for name in getattr(self.meaning, flag):
                one = Meaning(good=(name,))
                folders = [(), *self.images, *self.children]
                if not any(one.of(folder[depth:]) for folder in folders for depth in range(len(folder) + 1)):
                    seen = ", ".join(sorted({"/".join(folder) for folder in self.images if folder})[:10])
                    raise BadValue(
                        f"--{flag} {name}: no folder of that name has images in {printable(self.root)}\n"
                        f"  Folders that have: {printable(seen) or 'none'}"
                    )
