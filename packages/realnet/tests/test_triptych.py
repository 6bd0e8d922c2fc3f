from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.segmentation import mark_boundaries

from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.measure import measure
from adcommon.results.pictures import jet
from adcommon.testing.trees import make_mvtec
from adcommon.types.records import Record
from realnet.triptych import OUTLINE, triptych, write_triptychs

SIDE = 32
IMAGE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
MASK = np.zeros((SIDE, SIDE), dtype=bool)
MASK[8:20, 8:16] = True
MAP = np.where(MASK, 0.75, 0.25).astype(np.float32)


def test_the_three_pictures_stand_side_by_side() -> None:
    picture = triptych(IMAGE, MASK, MAP, high=0.75, threshold=None)
    left, middle, right = np.split(picture, 3, axis=1)
    assert np.array_equal(left, IMAGE)
    assert np.array_equal(middle[..., 0] == 255, MASK)
    assert set(np.unique(middle)) == {0, 255}
    colours = jet(np.where(MASK, 255, 85).astype(np.uint8))
    mixed = 0.5 * colours.astype(np.float64) / 255 + 0.5 * IMAGE / 255
    expected = 255 * mixed / mixed.max()
    assert abs(right - expected).max() < 1.001


def test_the_outline_is_the_thick_boundary_of_what_exceeds_the_threshold() -> None:
    without = triptych(IMAGE, MASK, MAP, high=1.0, threshold=None)[:, 2 * SIDE :]
    outlined = triptych(IMAGE, MASK, MAP, high=1.0, threshold=0.5)[:, 2 * SIDE :]
    expected = mark_boundaries(without / 255, MASK.astype(int), color=(1, 0, 0), mode="thick") * 255
    assert np.array_equal(outlined, np.rint(expected))
    red = (outlined == OUTLINE).all(axis=-1)
    assert red[8, 8]
    assert red[7, 8]
    assert not red[12, 12]
    at_the_threshold = triptych(IMAGE, MASK, MAP, high=1.0, threshold=0.75)[:, 2 * SIDE :]
    assert np.array_equal(at_the_threshold, without)


def test_colours_compare_within_a_category() -> None:
    grey = np.full_like(IMAGE, 128)
    alone, beside_a_higher_map = (
        triptych(grey, MASK, MAP, high=high, threshold=None)[12, 2 * SIDE + 12] for high in (0.75, 1.5)
    )
    assert alone[0] > alone[2]
    assert beside_a_higher_map[1] > beside_a_higher_map[0]


@pytest.fixture
def scores(tmp_path) -> Scores:
    make_mvtec(tmp_path, ("bottle",), test_good=1, test_defect=2, defects=("spot", "crack"))
    records = [Record(tmp_path / "bottle/test/good/000.png", "bottle", 0)]
    for defect in ("spot", "crack"):
        for number in range(2):
            mask = tmp_path / f"bottle/ground_truth/{defect}/00{number}_mask.png"
            image = tmp_path / f"bottle/test/{defect}/00{number}.png"
            records.append(Record(image, "bottle", 1, defect, mask))
    preprocess = Preprocess(image_size=SIDE)
    maps = np.stack([preprocess.mask(record.mask, record.image) for record in records]).astype(np.float32)
    ramp = np.linspace(0.05, 0.15, SIDE, dtype=np.float32)
    return Scores(records, preprocess, maps.max(axis=(1, 2)), 0.8 * maps + ramp)


def test_every_test_image_gets_a_file_named_after_its_folder_and_itself(scores, tmp_path) -> None:
    evaluation = measure(scores, category="bottle")
    threshold, high = evaluation.pixel_threshold, float(scores.anomaly_maps.max())
    assert 0.8 < threshold < high
    files = write_triptychs(scores, evaluation, tmp_path / "out")
    assert [file.name for file in files] == [
        *("good_000.png", "spot_000.png", "spot_001.png", "crack_000.png", "crack_001.png"),
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(file.name for file in files)
    for file, record, anomaly_map in zip(files, scores.records, scores.anomaly_maps, strict=True):
        picture = np.asarray(Image.open(file))
        assert picture.shape == (SIDE, 3 * SIDE, 3)
        original = Image.open(record.image).resize((SIDE, SIDE))
        assert np.array_equal(picture[:, :SIDE], np.asarray(original))
        mask = scores.preprocess.mask(record.mask, record.image)
        expected = triptych(np.asarray(original), mask, anomaly_map, high=high, threshold=threshold)
        assert np.array_equal(picture, expected)


def test_images_of_one_name_keep_their_own_files(scores, tmp_path) -> None:
    twice = Scores(
        [scores.records[0]] * 2, scores.preprocess, scores.image_scores[:2], scores.anomaly_maps[:2]
    )
    evaluation = measure(scores, category="bottle")
    assert len(set(write_triptychs(twice, evaluation, tmp_path / "out"))) == 2


def test_without_maps_or_truth_there_is_nothing_or_no_outline(scores, tmp_path) -> None:
    evaluation = measure(scores, category="bottle")
    nothing = Scores(scores.records, scores.preprocess, scores.image_scores, None)
    assert write_triptychs(nothing, evaluation, tmp_path / "none") == []
    assert not Path(tmp_path / "none").exists()
