"""Datasets that come with the installation: ELPV's solar cells and simulated textile, from their wheels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from adcommon.data.sources.layouts import Scan, in_order
from adcommon.data.sources.splits import quarter
from adcommon.errors import BadValue, DatasetNotFound
from adcommon.io.images import list_images
from adcommon.types.records import Record, Split

Uncertain = Literal["none", "normal", "anomaly"]
"""What becomes of cells that are neither surely normal nor anomalous: left out, or counted as one of them."""

_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of ELPV's labels.csv."""

    path: str
    """Relative to labels.csv: "images/cell0001.png"."""
    probability: float
    """Of being defective: 0, 1/3, 2/3 or 1."""
    kind: str
    """Solar module it is from: "mono" or "poly"(crystalline)."""


@dataclass(frozen=True, slots=True)
class CellSplit:
    """ELPV under InCTRL's protocol (arXiv 2403.06495)."""

    train: list[Cell]
    """Normal."""
    good: list[Cell]
    """Normal, for the test."""
    anomalous: list[Cell]
    dropped: list[Cell]
    """Neither surely normal nor anomalous."""


def elpv_folder() -> Path:
    """Folder of labels.csv in the package elpv-dataset."""
    return _package_folder("elpv_dataset", "elpv-dataset") / "data"


def textile_folder() -> Path:
    """Folder of nominal, local and global in the package conformal-clip-data."""
    return _package_folder("conformal_clip_data", "conformal-clip-data") / "data/textile_images/simulated"


PACKAGES = {"elpv": elpv_folder, "textile": textile_folder}
"""The folder in its Python package, by dataset."""


def read_cells(folder: Path) -> list[Cell]:
    """The rows of `folder`/labels.csv in their order: path, probability and kind, separated by blanks."""
    table = folder / "labels.csv"
    if not table.is_file():
        raise DatasetNotFound(
            f"no labels.csv in {folder}; expected the folder of ELPV that has labels.csv and images/\n"
            "  Get it from https://github.com/zae-bayern/elpv-dataset, or take the installed: --from-package"
        )
    cells = []
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            path, probability, kind = fields
            cells.append(Cell(path, float(probability), kind))
        except ValueError:
            expected = "images/cell0001.png 1.0 mono"
            raise BadValue(f"{table}, line {number}: '{line}'; expected: {expected}") from None
    return cells


def split_cells(
    cells: Sequence[Cell], *, min_probability: float = 1.0, include_uncertain: Uncertain = "none"
) -> CellSplit:
    """InCTRL's protocol: probability 0 is normal, 1 anomalous, the rest dropped; a quarter of normals tests.

    Args:
        min_probability: from which a cell is anomalous.
        include_uncertain: counts the cells between 0 and `min_probability` too, as normal or as anomalous.
    """
    counted: dict[str, list[Cell]] = {"none": [], "normal": [], "anomaly": []}
    for cell in cells:
        if math.isclose(cell.probability, 0, abs_tol=_TOLERANCE):
            counted["normal"].append(cell)
        elif cell.probability >= min_probability - _TOLERANCE:
            counted["anomaly"].append(cell)
        else:
            counted[include_uncertain].append(cell)
    return CellSplit(*quarter(counted["normal"]), counted["anomaly"], counted["none"])


def scan_elpv(category: str) -> Scan:
    """ELPV from its package: "elpv" is InCTRL's category, "mono" and "poly" are its restrictions to one kind.

    All three share one split, so that no training cell of one is a test cell of another.
    """
    folder = elpv_folder()
    split = split_cells(read_cells(folder))

    def records(cells: list[Cell], label: int) -> list[Record]:
        return [
            Record(folder / cell.path, category, label, cell.kind if label else "good")
            for cell in cells
            if category in ("elpv", cell.kind)
        ]

    test = [*records(split.good, 0), *records(split.anomalous, 1)]
    return Scan(Split(in_order(records(split.train, 0)), in_order(test)))


def scan_textile(category: str) -> Scan:
    """The simulated textile from its package; a quarter of the nominal images tests."""
    folder = textile_folder()
    split = Split(*quarter([Record(image, category, 0) for image in list_images(folder / "nominal")]))
    for defect in ("local", "global"):
        split.test.extend(Record(image, category, 1, defect) for image in list_images(folder / defect))
    return Scan(Split(in_order(split.train), in_order(split.test)))


def _package_folder(module: str, distribution: str) -> Path:
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise DatasetNotFound(
            f"the package {distribution} is not installed\n  Run: uv sync, or uv pip install {distribution}"
        )
    return Path(spec.submodule_search_locations[0])
