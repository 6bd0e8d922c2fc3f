from pathlib import Path

import pytest
from PIL import Image

from adcommon.data import load_splits
from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.data.readable import read_all
from adcommon.errors import UnreadableImage
from adcommon.io.cache import DiskCache
from adcommon.testing.trees import make_mvtec


@pytest.fixture
def datasets(tmp_path: Path) -> list[AnomalyDataset]:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    split = load_splits("mvtec", tmp_path, ("bottle",))["bottle"]
    cache = DiskCache(tmp_path / "cache")
    return [
        AnomalyDataset(records, Preprocess(image_size=64), cache) for records in (split.train, split.test)
    ]


def test_good_files_pass_and_are_in_the_cache_afterwards(
    datasets: list[AnomalyDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_all(datasets)

    def fail(*given: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(Preprocess, "pixels", fail)
    again = AnomalyDataset(datasets[0].records, datasets[0].preprocess, datasets[0].cache)
    assert len(again.batch([0, 1]).images) == 2


def test_every_damaged_image_and_every_mask_of_another_size_is_named_at_once(
    datasets: list[AnomalyDataset],
) -> None:
    train, test = datasets
    damaged = [record.image for record in train.records[:2]]
    for image in damaged:
        image.write_bytes(image.read_bytes()[:40])
    mask = next(record.mask for record in test.records if record.mask is not None)
    Image.new("L", (3, 3)).save(mask)
    with pytest.raises(UnreadableImage) as error:
        read_all(datasets)
    assert "3 of 12 images cannot be used" in str(error.value)
    for path in (*damaged, mask):
        assert str(path) in str(error.value)
