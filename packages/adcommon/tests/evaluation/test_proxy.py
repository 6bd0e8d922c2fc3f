from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.evaluation.proxy import DEFECT, paste, with_proxies
from adcommon.types.records import Record


@pytest.fixture
def normal(tmp_path: Path) -> list[Record]:
    generator = np.random.default_rng(0)
    records = []
    for number in range(8):
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (60, 90, 3), dtype=np.uint8)).save(path)
        records.append(Record(path, "parts", 0))
    return records


def test_kept_out_images_are_there_with_and_without_a_defect_and_nowhere_else(normal, tmp_path) -> None:
    split = with_proxies(normal, tmp_path / "out", share=0.5, seed=3)
    assert len(split.train) == 4
    assert sorted(record.label for record in split.test) == [0] * 4 + [1] * 4
    for record in split.test:
        if record.label:
            clean = record.image.parent.parent / "good" / record.image.name
            clean, spoiled, mask = (
                np.asarray(Image.open(path)) for path in (clean, record.image, record.mask)
            )
            mask = mask[..., 0]
            changed = (clean != spoiled).any(axis=2)
            assert record.defect == DEFECT
            assert 0 < (mask > 0).mean() < 0.05
            assert changed[mask > 0].mean() > 0.5
            assert changed[mask == 0].mean() < 0.1
    trained = {record.image.read_bytes() for record in split.train}
    originals = [np.asarray(Image.open(record.image)).tobytes() for record in normal]
    kept = {np.asarray(Image.open(record.image)).tobytes() for record in split.test if not record.label}
    assert len(kept) == 4 <= len(set(originals) & kept)
    assert not kept & {np.asarray(Image.open(path.image)).tobytes() for path in split.train}
    assert len(trained) == 4
    again = with_proxies(normal, tmp_path / "again", share=0.5, seed=3)
    pixels = [[path.image.read_bytes() for path in one.test] for one in (split, again)]
    assert pixels[0] == pixels[1]


@pytest.mark.parametrize("size", [(20, 300), (300, 20), (64, 64)])
def test_a_piece_lies_in_any_picture(size: tuple[int, int]) -> None:
    generator = np.random.default_rng(5)
    image = generator.integers(0, 255, (*size, 3), dtype=np.uint8)
    for _ in range(20):
        spoiled, mask = paste(image, image[::-1], generator)
        assert spoiled.shape == image.shape
        assert mask.any()
