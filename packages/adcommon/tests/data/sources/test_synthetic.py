from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from adcommon.data import find_categories, load_records
from adcommon.data.sources import synthetic
from adcommon.data.sources.synthetic import defects_of, draw_category, draw_sample
from adcommon.errors import OutputFailed
from adcommon.io.images import open_image, open_mask

CASES = [(category, defect) for category in synthetic.CATEGORIES for defect in defects_of(category)]


@pytest.fixture(autouse=True)
def _few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "TRAIN_IMAGES", 3)
    monkeypatch.setattr(synthetic, "GOOD_IMAGES", 2)
    monkeypatch.setattr(synthetic, "IMAGES_PER_DEFECT", 1)


@pytest.mark.parametrize(("category", "defect"), CASES)
def test_outside_its_mask_a_defective_image_equals_the_flawless_one(category: str, defect: str) -> None:
    for seed in range(3):
        flawless, nothing = draw_sample(category, None, np.random.default_rng(seed))
        defective, mask = draw_sample(category, defect, np.random.default_rng(seed))
        changed = (flawless != defective).any(axis=-1)
        assert not nothing.any()
        assert not (changed & ~mask).any()
        assert 40 < mask.sum() < 0.06 * mask.size
        assert (changed & mask).sum() > 0.8 * mask.sum()
        difference = np.abs(flawless[mask].astype(int) - defective[mask]).mean()
        assert difference > 8  # grey levels: it can be seen


@pytest.mark.parametrize("category", synthetic.CATEGORIES)
def test_normal_images_differ_and_repeat_with_the_seed(category: str) -> None:
    first, again, other = (draw_sample(category, None, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert (first == again).all()
    assert np.abs(first.astype(int) - other).mean() > 3


def test_the_dataset_is_drawn_once_into_the_cache(tmp_path: Path) -> None:
    assert find_categories("synthetic", None) == ("brick", "grass", "gravel", "plate")
    split = load_records("synthetic", None, "brick", seed=3)
    assert (len(split.train), len(split.test)) == (3, 6)
    assert split.pixel_truth
    folder = tmp_path / f"cache/synthetic-{synthetic.VERSION}/seed3/brick"
    assert all(record.image.is_relative_to(folder) for record in split.train)
    assert [path.name for path in folder.parent.iterdir()] == ["brick"]
    drawn = split.test[0].image.stat().st_mtime_ns
    assert load_records("synthetic", None, "brick", seed=3) == split
    assert split.test[0].image.stat().st_mtime_ns == drawn
    for record in split.test:
        assert open_image(record.image).size == (256, 256)
        assert record.label == 0 or open_mask(record.mask).any()


def test_parallel_processes_get_the_same_complete_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: draw_category("plate", 0), range(4)))
    (folder,) = folders
    assert len(list(folder.rglob("*.png"))) == 3 + 2 + 4 + 4
    assert [path.name for path in folder.parent.iterdir()] == ["plate"]


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AD_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputFailed, match="Set AD_CACHE"):
        draw_category("brick", 0)
