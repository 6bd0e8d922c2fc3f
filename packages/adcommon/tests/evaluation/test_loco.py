from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data import load_records
from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.measure import measure
from adcommon.results.rows import row, text
from adcommon.testing.trees import make_mvtec, make_mvtec_loco
from adcommon.types.facts import Facts

GROUPS = {0: "good", 1: "structural_anomalies", 2: "logical_anomalies"}


def scores_of(folder: Path, maps: np.ndarray) -> Scores:
    records = load_records("folder", folder, folder.name).test
    return Scores(records, Preprocess(image_size=maps.shape[1]), maps.max(axis=(1, 2)), maps)


def test_files_and_maps_give_the_golden_saturated_overlap(golden_root: Path, tmp_path: Path) -> None:
    golden = np.load(golden_root / "metrics" / "spro.npz")
    maps, names = golden["maps"], [GROUPS[group] for group in golden["image_group"].tolist()]
    _, height, width = maps.shape
    folder = tmp_path / "pushpins"
    for number, name in enumerate(names):
        image = folder / "test" / name / f"{number:03d}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height)).save(image)
        channels = golden["channels"][golden["channel_image"] == number]
        for index, channel in enumerate(channels):
            target = folder / "ground_truth" / name / f"{number:03d}"
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray(channel.astype(np.uint8)).save(target / f"{index:03d}.png")
    (folder / "defects_config.json").write_text(str(golden["defects_config"]))
    assert height == width
    scores = scores_of(folder, maps)
    order = [int(record.image.stem) for record in scores.records]
    scores = Scores(scores.records, scores.preprocess, scores.image_scores[order], maps[order])
    extra = measure(scores, category="pushpins").extra
    expected = {"spro": "mean", "spro_structural": "structural", "spro_logical": "logical"}
    assert set(extra) == set(expected)
    for name, group in expected.items():
        assert extra[name] == pytest.approx(float(golden[f"exact_auspro_{group}_0.05"]), abs=1e-9)


def test_the_original_size_is_that_of_the_images(tmp_path: Path) -> None:
    folder = make_mvtec_loco(tmp_path / "pushpins")
    maps = np.random.default_rng(0).random((9, 64, 64), dtype=np.float32)  # no ties that rounding could break
    at_map, original = (
        measure(scores_of(folder, maps), category="pushpins", eval_size=size).extra["spro"]
        for size in ("map", "original")
    )
    assert at_map == pytest.approx(original, abs=1e-3)
    small = scores_of(folder, maps[:, ::2, ::2].copy())
    restored = np.stack([small.preprocess.restore(each, 64, 64) for each in small.anomaly_maps])
    expected = measure(scores_of(folder, restored), category="pushpins").extra
    assert measure(small, category="pushpins", eval_size="original").extra == pytest.approx(
        expected, abs=1e-6
    )


def test_half_of_a_defect_is_enough_where_half_saturates(tmp_path: Path) -> None:
    folder = make_mvtec_loco(tmp_path / "pushpins")
    records = load_records("folder", folder, "pushpins").test
    preprocess = Preprocess(image_size=64)
    truth = np.stack([preprocess.mask(record) for record in records]).astype(np.float32)
    found = measure(Scores(records, preprocess, truth.max(axis=(1, 2)), truth), category="pushpins")
    assert found.extra == {"spro": 1.0, "spro_structural": 1.0, "spro_logical": 1.0}
    rows = np.arange(64)[:, None]
    halves = truth * ((rows < 4) | (rows >= 21))  # half of the spot of 8x8; 128 pixels where 20 saturate
    half = measure(Scores(records, preprocess, halves.max(axis=(1, 2)), halves), category="pushpins")
    assert half.extra["spro"] == 1.0
    assert half.aupro is not None
    assert half.aupro < 1.0
    quarter = measure(
        Scores(records, preprocess, halves.max(axis=(1, 2)), halves * (rows >= 2)), category="pushpins"
    )
    assert quarter.extra["spro"] == pytest.approx((0.5 + 1) / 2, abs=0.02)


def test_absolute_thresholds_shrink_with_the_maps(tmp_path: Path) -> None:
    folder = make_mvtec_loco(tmp_path / "pushpins", size=128)
    records = load_records("folder", folder, "pushpins").test
    preprocess = Preprocess(image_size=32)
    truth = np.stack([preprocess.mask(record) for record in records]).astype(np.float32)
    rows = np.arange(32)[:, None]
    first_row = truth * ((rows < 4) | (rows == 10))  # 4 of the pair's 32 pixels; 20 / 16 of them saturate
    scores = Scores(records, preprocess, truth.max(axis=(1, 2)), first_row)
    assert measure(scores, category="pushpins").extra["spro"] == pytest.approx(1)


def test_rows_of_a_table_have_it_where_there_are_channels_and_nowhere_else(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    loco, other = make_mvtec_loco(tmp_path / "pushpins"), make_mvtec(tmp_path, categories=("nut",)) / "nut"
    lines = []
    for folder, images in ((loco, 9), (other, 6)):
        evaluation = measure(
            scores_of(folder, generator.random((images, 64, 64), dtype=np.float32)), category=folder.name
        )
        facts = {"method": "m", "dataset": "folder", "setting": "s", "backbone": "b", "weights": "w"}
        lines.append(row(evaluation, Facts(**facts, seed=0), seconds=1.0))
    assert set(lines[0]["extra"]) == {"spro", "spro_structural", "spro_logical"}
    assert lines[1]["extra"] == {}
    assert "sPRO logical" in text(lines[:1])
    assert "sPRO" not in text(lines[1:])


@pytest.mark.parametrize("masks", ["ground_truth", "ground_truth_channels"])
def test_the_dataset_has_it_raw_and_prepared(tmp_path: Path, masks: str) -> None:
    make_mvtec_loco(tmp_path / "mvtec_loco_anomaly_detection/pushpins", masks=masks)
    records = load_records("mvtec_loco", tmp_path, "pushpins").test
    maps = np.random.default_rng(0).random((9, 64, 64), dtype=np.float32)
    scores = Scores(records, Preprocess(image_size=64), maps.max(axis=(1, 2)), maps)
    assert 0 < measure(scores, category="pushpins").extra["spro"] < 1


def test_channels_that_vanish_in_small_maps_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_mvtec_loco(tmp_path / "pushpins")
    channel = folder / "ground_truth/logical_anomalies/000/000.png"
    values = np.zeros((64, 64), dtype=np.uint8)
    values[0, 0] = 255
    Image.fromarray(values).save(channel)
    measure(
        scores_of(folder, np.random.default_rng(0).random((9, 8, 8), dtype=np.float32)), category="pushpins"
    )
    assert "sPRO leaves out 1 channels" in caplog.text
