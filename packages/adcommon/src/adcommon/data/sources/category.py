"""One category of the user's own images: which train, which test, their masks, and what is not used."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import NoReturn

from adcommon.data.sources.layouts import MASK_EXTENSIONS, Pairing, Scan, defect_of, in_order
from adcommon.data.sources.masks import (
    Found,
    all_are_masks,
    any_are_masks,
    image_of,
    masks_beside,
    nearest,
    pair,
)
from adcommon.data.sources.meaning import Parts
from adcommon.data.sources.splits import split_normals
from adcommon.data.sources.tree import Tree
from adcommon.data.sources.words import OPPOSITES, said_by
from adcommon.errors import BadValue
from adcommon.io.images import list_folder
from adcommon.io.listing import UNKNOWN, describe
from adcommon.io.text import printable
from adcommon.types.names import as_name
from adcommon.types.records import Record, Split

LOOSE = "images of which no folder says whether they are normal"
BESIDE = "images beside train and test"
VALIDATION = "images of a validation part, which nothing uses"
NO_MASKS = "files in folders of masks that are none; save them as PNG (JPEG changes values)"
UNREAD = "lists; if one says which images are normal, give it as --data"
_LISTS = (".csv", ".tsv", ".json", ".jsonl", ".xlsx", ".xml")
_MOST_FOLDERS = 12


class Category:
    """The images of one category, each with what its folders say."""

    def __init__(self, tree: Tree, at: Parts, name: str) -> None:
        """Judge every folder of the category, which lies `at` in the tree."""
        self._tree, self._at, self._name = tree, at, name
        self._folder = tree.root.joinpath(*at)
        found: list[Found] = []
        for folder, images in tree.images.items():
            if (place := tree.place_in(folder, at)) is not None:
                masks = masks_beside(images) if place.label != "masks" else set()
                found += [Found(one, place.as_masks() if one in masks else place) for one in images]
        self._images = [one for one in found if one.place.label != "masks"]
        self._masks = [one for one in found if one.place.label == "masks"]
        self._good, self._bad, self._other = (self._labelled(kind) for kind in ("good", "bad", "other"))

    def scan(self, seed: int) -> Scan:
        """The records, and what is wrong or left over; the seed draws what no folder divides."""
        self._refuse_unclear()
        splits = {one.place.split for one in self._images}
        if splits == {"other"}:
            if not self._good:
                self._refuse_guesses()
                scan = self._scan([], self._images, [], {}, seed)
                lists = list_folder(self._folder, lambda path: path.suffix.lower() in _LISTS)
                return replace(scan, unused=scan.unused | ({UNREAD: lists} if lists else {}))
            return self._scan([], self._good, self._bad, {LOOSE: self._other}, seed)
        tested = "test" if "test" in splits else "val"
        loose = _of(self._other, tested)
        if loose and not _of([*self._good, *self._bad], tested):
            self._ask(f"nothing says whether the images in {tested} are normal")
        train = [*_of(self._good, "train"), *_of(self._other, "train")]
        normal, anomalous = _of(self._good, tested), _of(self._bad, tested)
        anomalous += [one for one in _of(self._bad, "other") if one.place.sure]
        beside = [one for one in _of(self._bad, "other") if not one.place.sure] + _of(self._other, "other")
        if train:
            beside += _of(self._good, "other")
        else:
            train = _of(self._good, "other")
        unused = {
            LOOSE: loose,
            BESIDE: beside,
            VALIDATION: _of(self._images, "val") if tested == "test" else [],
        }
        if tested in splits:
            scan = self._scan(train, normal, anomalous, unused, None)
        else:
            scan = self._scan([], train, anomalous, unused, seed)
        return replace(scan, wrong=[*self._bad_in_training(), *scan.wrong])

    def _scan(
        self,
        train: Sequence[Found],
        normal: Sequence[Found],
        anomalous: Sequence[Found],
        unused: dict[str, list[Found]],
        seed: int | None,
    ) -> Scan:
        """The records of a division; with a seed the normal images are split."""
        pairing = pair(anomalous, self._masks)
        self._refuse_photographs()
        refused = self._refused_masks(pairing)
        self._refuse_hidden_masks(anomalous, normal)
        normals = in_order(Record(one.path, self._name, 0) for one in normal)
        split = Split(in_order(Record(one.path, self._name, 0) for one in train), normals)
        if seed is not None:
            split = split_normals(normals, seed)
        spelling: dict[str, str] = {}
        tested = list(split.test)
        for one in anomalous:
            defect = as_name(defect_of(one.place.defect or "anomalous"))
            defect = spelling.setdefault(defect.casefold(), defect)
            tested.append(Record(one.path, self._name, 1, defect, pairing.masks.get(one.path)))
        return Scan(
            Split(split.train, in_order(tested)),
            has_masks=bool(self._masks or refused),
            missing={one.path: self._where(one, refused) for one in anomalous if one.path in pairing.missing},
            extra=pairing.extra,
            wrong=pairing.wrong,
            unused=self._unused({**unused, NO_MASKS: refused}),
            drawn=seed is not None,
        )

    def _labelled(self, label: str) -> list[Found]:
        return [one for one in self._images if one.place.label == label]

    def _bad_in_training(self) -> list[str]:
        folders = {one.path.parent: one.place.defect for one in _of(self._bad, "train")}
        return [
            f"'{defect}' among the training images of category '{self._name}': {folder}\n"
            f"  Only normal images can train. Move the others to test, or, if they are normal: "
            f"--good {shlex.quote(folder.name)}"
            for folder, defect in folders.items()
        ]

    def _refuse_unclear(self) -> None:
        if unclear := [one.place for one in self._images if one.place.label == "unclear"]:
            names = ", ".join(sorted({"/".join(place.source) for place in unclear}))
            hint = "; of several products, each one's folder holds its own train and test"
            divided = any(place.split != "other" for place in unclear)
            self._ask(f"names of folders contradict each other ({names}){hint if divided else ''}")
        sources = {one.place.source: one.place.sure for one in self._good}
        unsure = ["/".join(source) for source, sure in sources.items() if not sure]
        if unsure and len(unsure) < len(sources):
            self._ask(f"{', '.join(unsure)} may be good or not, beside other folders of good images")

    def _refuse_guesses(self) -> None:
        """No folder is called good: all images are normal, unless anything speaks against it."""
        root = self._tree.root.resolve().name
        names = {folder[-1].casefold() for folder in self._tree.below(self._at)}
        if any(one.place.sure for one in self._bad) or (not self._at and said_by(root) == ("bad", True)):
            self._ask("there are anomalous images, and no folder says which images are normal")
        if self._masks:
            self._ask("there are masks, and no folder says which images are anomalous")
        if names in OPPOSITES or (self._bad and self._tree.images.get(self._at)):
            self._ask("no folder says which images are normal")

    def _refuse_photographs(self) -> None:
        """Ask of folders that are called as those of masks are, and hold something else."""
        guessed = [one for one in self._masks if not self._tree.meaning.of(one.place.source, self._at)]
        if guessed and not any_are_masks([one.path for one in guessed]):
            names = sorted({"/".join(one.place.source) for one in guessed})
            self._ask(f"{', '.join(names)} may hold masks by name, and the pictures are none")

    def _refuse_hidden_masks(self, anomalous: Sequence[Found], normal: Sequence[Found]) -> None:
        """Ask of folders of pictures that look like masks and are called as the anomalous images are."""
        by_source: dict[Parts, list[Found]] = {}
        for one in anomalous:
            by_source.setdefault(one.place.source, []).append(one)
        for source, pictures in by_source.items():
            others = {one.stem for one in anomalous if one.place.source != source}
            told = self._tree.meaning.of(source, self._at)
            if told or not all({one.stem, image_of(one.stem)} & others for one in pictures):
                continue
            drawn = bool(normal) and any_are_masks([normal[0].path])
            if not drawn and all_are_masks([one.path for one in pictures]):
                self._ask(f"the pictures in {'/'.join(source)} have few values, as masks have")

    def _refused_masks(self, pairing: Pairing) -> list[Found]:
        """What lies in folders of masks and cannot be one: JPEG, and files that are no images."""
        parts = set(pairing.masks.values())
        found = [
            one
            for one in self._masks
            if one.path.suffix.lower() not in MASK_EXTENSIONS and one.path.parent not in parts
        ]
        for reason, paths in self._tree.listing.passed_over.items():
            for path in paths if reason.startswith(UNKNOWN) else ():
                place = self._tree.place_in(path.relative_to(self._tree.root).parts[:-1], self._at)
                if place is not None and place.label == "masks":
                    found.append(Found(path, place))
        return found

    def _where(self, image: Found, refused: Sequence[Found]) -> Path:
        """The folder in which the missing mask of an image is looked for."""
        for one in nearest(image, [one for one in refused if image.stem in (one.stem, image_of(one.stem))]):
            return one.path.parent
        folders = [self._tree.root.joinpath(*one.place.source) for one in [*self._masks, *refused]]
        return Path((folders or [self._folder / "ground_truth"])[0], *image.place.key)

    def _unused(self, unused: dict[str, list[Found]]) -> dict[str, list[Path]]:
        """What lies in the category's folder and is not used, by reason."""
        paths = {reason: [one.path for one in found] for reason, found in unused.items() if found}
        known = {path for reason in paths.values() for path in reason}
        for reason, passed_over in self._tree.listing.passed_over.items():
            inside = [path for path in passed_over if path not in known and self._holds(path)]
            if inside:
                paths[reason] = inside
        return paths

    def _holds(self, path: Path) -> bool:
        return path.relative_to(self._tree.root).parts[: len(self._at)] == self._at

    def _ask(self, reason: str) -> NoReturn:
        found = [*self._images, *(one for one in self._masks if one.path.is_relative_to(self._folder))]
        counts = Counter(one.path.parent.relative_to(self._folder).as_posix() for one in found)
        seen = [f"  {printable(name)}: {count} images" for name, count in sorted(counts.items())]
        if len(seen) > _MOST_FOLDERS:
            seen[_MOST_FOLDERS:] = [f"  and {len(seen) - _MOST_FOLDERS} more folders"]
        if unread := describe(self._unused({})):
            seen.append(indent(unread, "  not read: "))
        raise BadValue(
            f"{printable(self._folder)}: {printable(reason)}\n" + "\n".join(seen) + "\n"
            "  Say it by names or paths of these folders, several after one flag (. is the folder itself):\n"
            "  --good NAME, --bad NAME, --masks NAME"
        )


def _of(found: Sequence[Found], split: str) -> list[Found]:
    return [one for one in found if one.place.split == split]
