"""No golden file of the metrics, and no column in one, is without a test that reads it."""

from pathlib import Path

import numpy as np

from adcommon.testing.metrics import golden_cases

EXACT = "exact"
"""What `adcommon.metrics` computes: read where accumulator, curves and streaming are tested."""
PAPERS = ("recontrast", "realnet", "uniad", "resad", "inctrl", "mvtec3d")
"""Read in the test_metrics.py of each method, and in that of the variant."""
OTHERS = {"spro", "postprocess", "prepare_fundus", "prepare_splits"}
"""Read where saturated overlap, anomaly maps and prepared datasets are tested."""


def test_every_column_has_an_owner(golden_metrics: Path) -> None:
    described = {"maps", "masks", "description", "reference_errors"}
    for case, arrays in golden_cases(golden_metrics).items():
        left = {name for name in arrays if not name.startswith(tuple(f"{o}_" for o in (EXACT, *PAPERS)))}
        assert left == described, case


def test_every_file_has_a_reader(golden_metrics: Path) -> None:
    files = {path.stem: np.load(path) for path in golden_metrics.glob("*.npz")}
    assert {name for name, arrays in files.items() if "exact_pixel_auroc" not in arrays} == OTHERS
    assert files.keys() - golden_cases(golden_metrics).keys() - OTHERS == set()
