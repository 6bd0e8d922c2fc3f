"""ELPV from its repository, or from the installed package, to the layout of MVTec AD under InCTRL's protocol.

    <source>                                             <target>/elpv
      labels.csv      images/cell0001.png 1.0 mono         train/good/    1,131 cells of probability 0
      images/cell0001.png                                  test/good/       377
                                                           test/mono/       313 cells of probability 1
                                                           test/poly/       402

Source: InCTRL (arXiv 2403.06495).
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import Listing, refuse_missing
from adcommon.data.sources.embedded import Uncertain, elpv_folder, read_cells, split_cells


@dataclass(frozen=True, kw_only=True)
class Elpv:
    """A tree of folders with the split of InCTRL; as a dataset, `elpv` needs no preparation."""

    package = staticmethod(elpv_folder)

    min_probability: float = 1.0
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
        steps = [
            Step(f"{folder}/{image.name}", image)
            for folder, cell in parts
            if (image := listing.find(cell.path)) is not None
        ]
        refuse_missing(listing.missing, len(parts), f"labels.csv and images/ belong together in {source}.")
        return Plan(
            dataset="elpv",
            source=source,
            folder=target / "elpv",
            steps=steps,
            options=asdict(self),
            notes=(f"{len(split.dropped)} cells of uncertain probability were left out",),
        )
