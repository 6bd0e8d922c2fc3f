"""HeadCT to the layout of MVTec AD under InCTRL's protocol.

    <source>                             <target>/headct
      labels.csv     0,1                   train/good/      75 without hemorrhage
      head_ct/head_ct/000.png              test/good/       25
                                           test/defect/    100 with hemorrhage

A quarter of the normal images, in the order of labels.csv, tests. Source: InCTRL (arXiv 2403.06495).
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import Listing, find_level, quarter, refuse_missing
from adcommon.errors import BadValue


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
        return Plan(dataset="head_ct", source=root, folder=target, steps=steps)


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
