"""Four datasets of which a quarter of the normal images tests, to the layout of MVTec AD: InCTRL's protocol.

    download                                    train   test
    brain_mri  no/1 no.jpeg  yes/Y1.jpg         good 73     good 25, defect 155
    head_ct    labels.csv  head_ct/head_ct/     good 75     good 25, defect 100
    elpv       labels.csv  images/              good 1,131  good 377, mono 313, poly 402
    textile    nominal/  local/  global/        good 750    good 250, local 500, global 500

The archive of brain_mri has every image twice; one is taken. Where InCTRL's split depends on the order in
which a disk lists files, it is by name here. Source: InCTRL (arXiv 2403.06495).
"""

import csv
from dataclasses import asdict, dataclass
from pathlib import Path

from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import Listing, copies, find_level, quarter, refuse_missing
from adcommon.data.sources.embedded import Uncertain, read_cells, split_cells
from adcommon.errors import BadValue
from adcommon.io.images import list_images
from adcommon.types.values import Share


@dataclass(frozen=True, kw_only=True)
class BrainMri:
    """The split of InCTRL."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has the folders yes and no, or a folder that has them."""
        root = find_level(source, "yes", "brain_mri")
        parts = quarter(list_images(root / "no")) | {"test/defect": list_images(root / "yes")}
        notes = ("order: by name; InCTRL's is that of the disk",)
        return Plan("brain_mri", root, target, copies("brainmri", parts), notes=notes)


@dataclass(frozen=True, kw_only=True)
class HeadCt:
    """The split of InCTRL."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has labels.csv, and the images in head_ct or head_ct/head_ct."""
        root = find_level(source, "labels.csv", "head_ct")
        labels = read_labels(root / "labels.csv")
        parts = quarter([number for number, label in labels if label == 0])
        parts["test/defect"] = [number for number, label in labels if label == 1]
        listing = Listing(find_level(root, "000.png", "head_ct"))
        steps = [
            Step(f"headct/{folder}/{image.name}", image)
            for folder, numbers in parts.items()
            for number in numbers
            if (image := listing.find(f"{number:03d}.png")) is not None
        ]
        refuse_missing(listing.missing, len(labels), "Unpack the archive again.")
        return Plan("head_ct", root, target, steps)


def read_labels(path: Path) -> list[tuple[int, int]]:
    """Numbers and labels (1: bleeding) in the order of labels.csv; blanks around its fields are dropped."""
    labels = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        if not {"id", "hemorrhage"} <= set(reader.fieldnames):
            raise BadValue(f"{path} has the columns {reader.fieldnames}; expected id and hemorrhage")
        for row in reader:
            number, label = (str(row[name]).strip() for name in ("id", "hemorrhage"))
            if not number.isdecimal() or label not in ("0", "1"):
                raise BadValue(
                    f"{path}, line {reader.line_num}: id '{number}', hemorrhage '{label}'; "
                    "expected a number, and 0 or 1"
                )
            labels.append((int(number), int(label)))
    return labels


@dataclass(frozen=True, kw_only=True)
class Elpv:
    """A tree of folders with the split of InCTRL; as a dataset, `elpv` needs no preparation."""

    min_probability: Share = 1.0
    """Probability of a defect from which a cell is anomalous."""
    include_uncertain: Uncertain = "none"
    """Count the cells between 0 and `min_probability` too, as normal or as anomalous."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has labels.csv. A note says how many cells were left out."""
        split = split_cells(read_cells(source), **asdict(self))
        parts = [("train/good", cell) for cell in split.train]
        parts += [("test/good", cell) for cell in split.good]
        parts += [(f"test/{cell.kind}", cell) for cell in split.anomalous]
        listing = Listing(source)
        found = [(folder, listing.find(cell.path)) for folder, cell in parts]
        steps = [Step(f"{folder}/{image.name}", image) for folder, image in found if image is not None]
        refuse_missing(listing.missing, len(parts), f"labels.csv and images/ belong together in {source}.")
        notes = (f"{len(split.dropped)} cells of uncertain probability were left out",)
        return Plan("elpv", source, target / "elpv", steps, asdict(self), notes)


@dataclass(frozen=True, kw_only=True)
class Textile:
    """A tree of folders; as a dataset, `textile` needs no preparation."""

    def plan(self, source: Path, target: Path) -> Plan:
        """`source` has nominal, local and global, each with the same file names."""
        root = find_level(source, "nominal", "textile")
        parts = quarter(list_images(root / "nominal"))
        parts |= {f"test/{defect}": list_images(root / defect) for defect in ("local", "global")}
        return Plan("textile", root, target, copies("textile", parts))
