"""What is known of a dataset before a single file of it is looked at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from adcommon.data.catalog.counts import COUNTS, Counts

Layout = Literal[
    "category_folders",
    "medical",
    "mvtec_3d",
    "mvtec_loco",
    "mvtec_ad_2",
    "two_classes",
    "bmad",
    "cifar10",
    "textures",
    "elpv",
    "textile",
    "synthetic",
    "folder",
]
"""How a dataset lies on disk:

category_folders: `<category>/train/good`, `<category>/test/<defect>`, `<category>/ground_truth/<defect>`
medical:          `train/NORMAL`, `test/NORMAL`, `test/<anomaly>`: one category, no masks
mvtec_3d:         `<category>/test/<defect>/rgb` and `gt`; prepared, as category_folders
mvtec_loco:       as category_folders; the masks of one image are a folder of channels
mvtec_ad_2:       as category_folders, with `test_public` and `test_public/ground_truth`
two_classes:      as category_folders, with `train/bad`, which does not train
bmad:             `<category>/test/<defect>/img` and `label`, where there are masks
cifar10:          the batches `data_batch_1` ... of the Python version; prepared, as category_folders
textures:         `images/<texture>`: no dataset to test on, but a source of textures
elpv, textile:    inside a Python package that is installed with this one
synthetic:        drawn into the cache folder, then as category_folders
folder:           the user's own images, see `adcommon.data.sources.folder`
"""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Facts about one dataset."""

    name: str
    """What the command line calls it."""
    title: str
    categories: tuple[str, ...] = ()
    """By default those with counts; empty where they are found on disk, and where nothing can be tested."""
    extra_categories: tuple[str, ...] = ()
    """Further categories that can be asked for and are not run by default."""
    layout: Layout = "category_folders"
    folders: tuple[str, ...] = ()
    """Where the dataset is looked for below the data root; the first is the usual name."""
    raw_marks: tuple[str, ...] = ()
    """Glob patterns of which one is found in the unprepared download."""
    download: str = ""
    """What to fetch from `url`, and what to do with it."""
    archives: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the owners' archives by their file names, where it is known."""
    pixel_truth: bool
    """True if anomalous images have masks."""
    url: str
    """The owners' page."""
    licence: str
    citation: str
    uses: Mapping[str, str] = field(default_factory=dict)
    """Which of the five papers use it, and how, in a few words."""

    def __post_init__(self) -> None:
        """Fill in the categories that have counts."""
        found = tuple(name for name in self.counts if name not in self.extra_categories)
        object.__setattr__(self, "categories", self.categories or found)

    @property
    def counts(self) -> Mapping[str, Counts]:
        """Published numbers of images by category; empty where there are none."""
        return COUNTS.get(self.name, {})

    @property
    def preparer(self) -> str | None:
        """Name after `ad prepare` where the download needs preparation."""
        return self.name if self.raw_marks or self.layout in ("elpv", "textile") else None

    @property
    def as_published(self) -> bool:
        """True if the download is read as it is, once it is unpacked."""
        return self.preparer is None and self.layout not in ("synthetic", "folder")

    @property
    def folder(self) -> str:
        """Usual folder name below the data root; empty for datasets that need no files of the user."""
        return self.folders[0] if self.folders else ""

    @property
    def page(self) -> str:
        """The line of a message that says where the dataset is from."""
        return f"  Official page: {self.url} (licence: {self.licence})"

    @property
    def papers(self) -> tuple[str, ...]:
        """Which of the five papers use it."""
        return tuple(self.uses)

    @property
    def embedded(self) -> bool:
        """True if the dataset is there without any download."""
        return self.layout in ("elpv", "textile", "synthetic")
