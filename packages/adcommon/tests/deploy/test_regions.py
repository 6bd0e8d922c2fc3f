import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from adcommon.deploy.regions import Region, regions, write_map


@pytest.fixture
def spots() -> np.ndarray:
    values = np.zeros((20, 30), dtype=np.float32)
    values[2:5, 10:14] = 1.0
    values[3, 12] = 1.5
    values[10, 3] = values[11, 4] = 2.0  # they touch at a corner
    values[18, 25] = 0.5
    return values


def test_regions_have_place_size_and_peak_and_the_highest_comes_first(spots: np.ndarray) -> None:
    first, second = regions(spots, 0.5)
    assert first == Region(3, 10, 2, 2, 2, 2.0, 3, 10)
    assert second == Region(10, 2, 4, 3, 12, 1.5, 12, 3)
    assert regions(spots, 9.0) == []


def test_regions_are_those_of_scipy() -> None:
    generator = np.random.default_rng(0)
    for height, width in [(1, 1), (1, 9), (9, 1), *generator.integers(1, 24, (300, 2)).tolist()]:
        values = generator.random((height, width)).astype(np.float32)
        level = generator.random()
        labels, count = ndimage.label(values > level, np.ones((3, 3)))
        wanted = []
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
            y, x = ndimage.maximum_position(values, labels, number)
            size = (columns.stop - columns.start, rows.stop - rows.start)
            area = int((labels == number).sum())
            wanted.append(Region(columns.start, rows.start, *size, area, float(values[y, x]), int(x), int(y)))
        assert len(wanted) == count
        assert regions(values, level) == sorted(wanted, key=lambda region: -region.peak)


@pytest.mark.parametrize("kind", ["npy", "tiff"])
def test_a_map_is_written_as_it_is(spots: np.ndarray, tmp_path: Path, kind: str) -> None:
    write_map(spots, tmp_path / "a.png", kind, 0.5)
    file = tmp_path / f"a.png.{kind}"
    read = np.load(file) if kind == "npy" else np.asarray(Image.open(file))
    np.testing.assert_array_equal(read, spots)
    assert read.dtype == np.float32
    facts = json.loads((tmp_path / "a.png.json").read_text())
    assert facts["level"] == 0.5
    assert [region["area"] for region in facts["regions"]] == [2, 12]
    write_map(spots, tmp_path / "b", kind, None)
    assert json.loads((tmp_path / "b.json").read_text()) == {"level": None, "regions": None}
