import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adcommon.data import load_records
from adcommon.data.sources.embedded import Cell, elpv_folder, read_cells, split_cells
from adcommon.data.sources.splits import quarter_split
from adcommon.errors import BadValue, DatasetNotFound

ELPV_DIGESTS = {  # SHA-256 of the newline-joined sorted relative paths of InCTRL's split
    "train": "17689121c5ec197bcf206aaac40e5a28b92151c83b0fb246d80e89b0cb888745",
    "good": "f5100c8625db1ce585c6402ba0d1658aecd578e5f84df61ce8f6b383178d8280",
    "mono": "92c1096815b6b07a07195e4cd4835fc9ddb32aa1fae7aa2d22163cbdcadf0672",
    "poly": "daad62203de48af7bea2136a721ba9d099f415d83df78330b5015d0538ec1e08",
}


def paths(records: list, defect: str) -> list[str]:
    folder = elpv_folder()
    return [record.image.relative_to(folder).as_posix() for record in records if record.defect == defect]


def test_elpv_is_split_exactly_as_in_inctrl() -> None:
    split = load_records("elpv", None, "elpv")
    found = {
        "train": paths(split.train, "good"),
        "good": paths(split.test, "good"),
        "mono": paths(split.test, "mono"),
        "poly": paths(split.test, "poly"),
    }
    assert {name: len(part) for name, part in found.items()} == {
        "train": 1131,
        "good": 377,
        "mono": 313,
        "poly": 402,
    }
    for name, part in found.items():
        assert hashlib.sha256("\n".join(sorted(part)).encode()).hexdigest() == ELPV_DIGESTS[name], name


def test_mono_and_poly_restrict_the_one_split_so_that_nothing_leaks() -> None:
    whole, mono, poly = (load_records("elpv", None, category) for category in ("elpv", "mono", "poly"))

    def images(records: list) -> set[Path]:
        return {record.image for record in records}

    assert images(mono.train) | images(poly.train) == images(whole.train)
    assert images(mono.test) | images(poly.test) == images(whole.test)
    assert not images(mono.train) & images(poly.train)
    assert not (images(mono.train) | images(poly.train)) & (images(mono.test) | images(poly.test))
    assert {record.defect for record in mono.test} == {"good", "mono"}


def test_textile_keeps_files_of_the_same_name_apart() -> None:
    split = load_records("textile", None, "textile")
    assert len(split.train) == 750
    assert Counter(record.defect for record in split.test) == {"good": 250, "local": 500, "global": 500}
    assert len({record.image for record in [*split.train, *split.test]}) == 2000
    assert not split.pixel_truth


@pytest.mark.parametrize("count", [7, 98, 100, 1143, 1508])
def test_quarter_split_equals_the_reference(golden_root: Path, count: int) -> None:
    golden = np.load(golden_root / "metrics/prepare_splits.npz")
    train, test = quarter_split(count)
    np.testing.assert_array_equal(train, golden[f"seed42_quarter_train_{count}"])
    np.testing.assert_array_equal(test, golden[f"seed42_quarter_test_{count}"])


CELLS = [
    Cell(f"images/{index}.png", probability, "mono" if index % 2 else "poly")
    for index, probability in enumerate((0.0, 0.0, 1e-12, 0.0, 1 / 3, 0.6666666666666666, 1.0, 1.0))
]


def test_uncertain_cells_are_left_out_unless_asked_for() -> None:
    split = split_cells(CELLS)
    assert [len(split.train), len(split.good), len(split.anomalous), len(split.dropped)] == [3, 1, 2, 2]
    split = split_cells(CELLS, include_uncertain="normal")
    assert [len(split.train) + len(split.good), len(split.anomalous), len(split.dropped)] == [6, 2, 0]
    split = split_cells(CELLS, include_uncertain="anomaly")
    assert [len(split.anomalous), len(split.dropped)] == [4, 0]
    split = split_cells(CELLS, min_probability=2 / 3)
    assert [len(split.anomalous), len(split.dropped)] == [3, 1]


def test_labels_are_separated_by_any_blanks(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "images/a.png  1.0                 mono\nimages/b.png\t0.333 poly\n\n"
    )
    assert read_cells(tmp_path) == [Cell("images/a.png", 1.0, "mono"), Cell("images/b.png", 0.333, "poly")]


def test_wrong_labels_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=r"no labels\.csv in .*; expected"):
        read_cells(tmp_path)
    (tmp_path / "labels.csv").write_text("images/a.png 1.0 mono\nimages/b.png,0,mono\n")
    with pytest.raises(BadValue, match=r"line 2: 'images/b.png,0,mono'; expected"):
        read_cells(tmp_path)
