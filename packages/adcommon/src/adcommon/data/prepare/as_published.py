"""Datasets whose download is laid out as training reads it: unpacked, checked and copied, junk left behind.

<source>/.../<category>/train/good/000.png        <target>/<category>/train/good/000.png
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from adcommon.data.catalog import DATASETS
from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import find_tree, search_level
from adcommon.data.sources.layouts import is_normal, subfolders
from adcommon.io.images import list_images


class AsPublished:
    """The images of the download in their own layout."""

    def __init__(self, dataset: str) -> None:
        """The dataset's layout says which folders belong to it."""
        self.dataset = dataset

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` may be the level above the dataset's folder."""
        entry = DATASETS[self.dataset]
        root = find_tree(source, self.dataset)
        parts = ("images",) if entry.layout == "textures" else entry.categories
        images = [image for part in parts for image in images_below(root / part)]
        steps = [Step(image.relative_to(root).as_posix(), image) for image in images]
        return Plan(entry.name, root, target, steps)


@dataclass(frozen=True, kw_only=True)
class Oct2017:
    """The images of the download, of which only NORMAL trains."""

    merge_val: bool = False
    """Take the images of the folder `val`, which only older versions have, as test images too."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; in the archive the dataset is the folder CellData/OCT."""
        root = find_tree(source, "oct2017")
        normal = [folder for folder in subfolders(root / "train") if is_normal(folder)]
        older = subfolders(root / "val")
        tested = [*subfolders(root / "test"), *(older if self.merge_val else ())]
        places = [("train/NORMAL", folder) for folder in normal]
        places += [(f"test/{folder.name}", folder) for folder in tested]
        found = [(place, image) for place, folder in places for image in list_images(folder)]
        steps = [Step(f"{place}/{image.name}", image) for place, image in found]
        notes = ["only NORMAL trains; the other folders of train were left out"]
        if older and not self.merge_val:
            notes.append("this is an older version, with other test images; its folder val was left out")
        return Plan("oct2017", root, target, steps, asdict(self), tuple(notes))


@dataclass(frozen=True, kw_only=True)
class Bmad:
    """The six sets under the benchmark's names: `Brain_AD/BraTS2021_slice` becomes `Brain`."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; what is validated with is kept, and not read."""
        root = search_level(source, "*_AD/*/train") or find_tree(source, "bmad")
        steps = [
            Step(f"{name}/{image.relative_to(folder).as_posix()}", image)
            for name in DATASETS["bmad"].categories
            for folder in (root / name, *subfolders(root / f"{name}_AD"))
            if (folder / "train").is_dir()
            for image in images_below(folder)
        ]
        return Plan("bmad", root, target, steps)


def images_below(folder: Path) -> Iterator[Path]:
    """All visible images of a tree, folder by folder, each in code-point order."""
    yield from list_images(folder)
    for below in subfolders(folder):
        yield from images_below(below)
