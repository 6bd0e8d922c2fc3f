import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from PIL import Image
from skimage.segmentation import mark_boundaries

from adcommon.data import load_splits
from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.evaluate import evaluate
from adcommon.evaluation.measure import measure
from adcommon.results.pictures import jet
from adcommon.testing.trees import make_mvtec
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.types.records import Evaluation, Record
from realnet.detector import RealNetDetector, make_preprocess
from realnet.evaluate import (
    OUTLINE,
    Validation,
    key_metric,
    paper_protocol,
    protocols,
    triptych,
    write_triptychs,
)
from realnet.metrics import realnet_pro

SETTINGS = Settings(weights="random", cache=False)
SIDE = 32
IMAGE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
MASK = np.zeros((SIDE, SIDE), dtype=bool)
MASK[8:20, 8:16] = True
MAP = np.where(MASK, 0.75, 0.25).astype(np.float32)


def images_of(mvtec: Path) -> dict:
    return {name: split.test for name, split in load_splits("mvtec", mvtec, ("bottle", "cable")).items()}


def scores_of(mvtec: Path, tiny, *, inverted: bool = False) -> Scores:
    """Maps that are the truth itself, a little noisy."""
    records = images_of(mvtec)["bottle"]
    preprocess = make_preprocess(tiny)
    masks = np.stack([preprocess.mask(record) for record in records])
    maps = (masks + np.random.default_rng(0).random(masks.shape) / 10).astype(np.float32)
    maps = 1.1 - maps if inverted else maps
    return Scores(records, preprocess, maps.max(axis=(1, 2)), maps)


def test_each_category_has_a_standard_and_a_paper_row_and_the_papers_pictures(
    mvtec, tiny, make_model, tmp_path
) -> None:
    detector = RealNetDetector(make_model(), make_preprocess(tiny), tiny)
    found = evaluate(
        detector,
        images_of(mvtec),
        batch_size=4,
        protocols=protocols(tiny),
        maps=tmp_path / "m",
        pictures=[write_triptychs],
    )
    assert [(row.category, row.protocol) for row in found] == [
        *(("bottle", "standard"), ("bottle", "realnet"), ("cable", "standard"), ("cable", "realnet"))
    ]
    pictures = sorted(path.name for path in (tmp_path / "m" / "cable").iterdir())
    assert pictures == [*(f"good_00{n}.png" for n in range(3)), *(f"spot_00{n}.png" for n in range(3))]
    assert Image.open(tmp_path / "m" / "cable" / "spot_000.png").size == (3 * 64, 64)
    assert protocols(replace(tiny, protocol="standard")) == []


def test_the_papers_columns_are_its_own(mvtec, tiny) -> None:
    scores = scores_of(mvtec, tiny)
    standard = measure(scores, category="bottle")
    paper = paper_protocol(scores, standard, tiny)
    assert (paper.protocol, paper.image_auroc, paper.pixel_auroc) == ("realnet", 1.0, 1.0)
    masks = np.stack([scores.preprocess.mask(record) for record in scores.records])
    assert paper.extra == {"pro": realnet_pro(scores.anomaly_maps, masks)}
    assert paper.aupro is None
    assert paper.pixel_ap is None


@pytest.mark.filterwarnings("ignore:.*below 0.5:UserWarning", "ignore:.*reported as:UserWarning")
def test_a_worthless_model_is_shown_as_it_is_unless_the_reference_is_asked_for(mvtec, tiny) -> None:
    scores = scores_of(mvtec, tiny, inverted=True)
    standard = measure(scores, category="bottle")
    assert paper_protocol(scores, standard, tiny).pixel_auroc < 0.01
    mirrored = paper_protocol(scores, standard, replace(tiny, reference_auroc=True))
    assert mirrored.pixel_auroc > 0.99


def test_an_image_whose_mask_vanishes_is_normal_in_the_papers_columns(mvtec, tiny, caplog) -> None:
    records = images_of(mvtec)["bottle"]
    mask = next(record.mask for record in records if record.mask is not None)
    dot = np.zeros((64, 64), np.uint8)
    dot[2, 2] = 255
    Image.fromarray(dot).save(mask)
    tiny_preprocess = replace(make_preprocess(tiny), image_size=32)  # keeps the odd pixels
    maps = np.random.default_rng(0).random((len(records), 32, 32)).astype(np.float32)
    scores = Scores(records, tiny_preprocess, maps.max(axis=(1, 2)), maps)
    standard = measure(scores, category="bottle")
    with caplog.at_level(logging.WARNING):
        paper = paper_protocol(scores, standard, tiny)
    assert (standard.anomalous, paper.anomalous) == (3, 2)
    assert "1 anomalous images have an empty mask at 32 pixels" in caplog.text


def test_without_masks_labels_come_from_folders(mvtec, tiny) -> None:
    scores = scores_of(mvtec, tiny)
    records = [replace(record, mask=None) for record in scores.records]
    bare = Scores(records, scores.preprocess, scores.image_scores, None)
    paper = paper_protocol(bare, measure(bare, category="bottle"), tiny)
    assert (paper.image_auroc, paper.pixel_auroc, paper.extra) == (1.0, None, {})


def evaluation(image: float, pixel: float | None, protocol: str = "realnet") -> Evaluation:
    return Evaluation(
        category="bottle",
        normal=3,
        anomalous=3,
        image_auroc=image,
        image_ap=0.5,
        image_f1max=0.5,
        image_threshold=0.5,
        pixel_auroc=pixel,
        protocol=protocol,
    )


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


@pytest.fixture
def validation(mvtec: Path, tiny, make_model, monkeypatch) -> Validation:
    """One whose measurements are what `results` says, one after the other."""
    split = load_splits("mvtec", mvtec, ("bottle",))["bottle"]
    recipe = replace(tiny, keep_best=True)
    made = Validation(make_model(), make_preprocess(tiny), split, recipe, SETTINGS, Accelerator(cpu=True))
    made.results = iter(())  # type: ignore[attr-defined]
    monkeypatch.setattr(made, "_evaluate", lambda **_: next(made.results))  # type: ignore[attr-defined]
    return made


def test_the_best_is_the_mean_of_both_areas_by_the_papers_labels() -> None:
    rows = [evaluation(0.1, 0.1, "standard"), evaluation(0.8, 0.6)]
    assert key_metric(rows) == pytest.approx(0.7)
    assert key_metric([evaluation(0.8, None)]) == 0.8


def test_the_latest_of_equally_good_models_is_kept_and_named_an_oracle(validation, tmp_path) -> None:
    validation.results = iter([[evaluation(0.9, 0.7)], [evaluation(0.7, 0.9)], [evaluation(0.6, 0.6)]])
    run = Run(tmp_path / "run")
    for step in (1, 2, 3):
        validation.interim(step, run)
    config = config_of(run.best_model)
    assert config["step"] == 2
    assert config["metrics"][0]["selection"] == "best-on-test"
    assert config["threshold"] is None


def test_a_run_reports_the_last_model_and_the_best_one_with_their_names(validation, tmp_path) -> None:
    run = Run(tmp_path / "run")
    validation.results = iter([[evaluation(0.9, 0.9)], [evaluation(0.8, 0.8)]])
    validation.interim(1, run)
    rows = validation.final(2, [], run)
    assert [(row["selection"], row["image_auroc"]) for row in rows] == [("last", 0.8), ("best-on-test", 0.9)]
    assert config_of(run.model)["step"] == 2


def test_the_last_model_may_be_the_best(validation, tmp_path) -> None:
    run = Run(tmp_path / "run")
    validation.results = iter([[evaluation(0.5, 0.5)], [evaluation(0.8, 0.8)]])
    validation.interim(1, run)
    validation.final(2, [], run)
    assert config_of(run.best_model)["step"] == 2


def test_what_was_best_survives_a_stop(validation, tmp_path) -> None:
    run = Run(tmp_path / "run")
    validation.results = iter([[evaluation(0.9, 0.9)], [evaluation(0.8, 0.8)]])
    validation.interim(1, run)
    state = validation.state_dict()
    validation.best, validation.best_rows = -1.0, []
    validation.load_state_dict(state)
    validation.interim(2, run)
    assert config_of(run.best_model)["step"] == 1


def test_nothing_is_kept_that_nobody_asked_for(validation, tmp_path) -> None:
    run = Run(tmp_path / "run")
    validation.recipe = replace(validation.recipe, keep_best=False)
    validation.results = iter([[evaluation(0.9, 0.9)], [evaluation(0.9, 0.9)]])
    validation.interim(1, run)
    rows = validation.final(2, [], run)
    assert [row["selection"] for row in rows] == ["last"]
    assert not run.best_model.exists()


def test_without_both_kinds_of_images_nothing_is_measured_on_the_way(mvtec, tiny, make_model, tmp_path):
    split = load_splits("mvtec", mvtec, ("bottle",))["bottle"]
    split = replace(split, test=[record for record in split.test if record.label == 0])
    made = Validation(make_model(), make_preprocess(tiny), split, tiny, SETTINGS, Accelerator(cpu=True))
    assert made.interim(1, Run(tmp_path / "run")) == {}


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
    maps = np.stack([preprocess.mask(record) for record in records]).astype(np.float32)
    ramp = np.linspace(0.05, 0.15, SIDE, dtype=np.float32)
    return Scores(records, preprocess, maps.max(axis=(1, 2)), 0.8 * maps + ramp)


def test_every_test_image_gets_a_file_named_after_its_folder_and_itself(scores, tmp_path) -> None:
    threshold = measure(scores, category="bottle").pixel_threshold
    high = float(scores.anomaly_maps.max())
    assert 0.8 < threshold < high
    write_triptychs(scores, tmp_path / "out")
    names = ["good_000.png", "spot_000.png", "spot_001.png", "crack_000.png", "crack_001.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    for name, record, anomaly_map in zip(names, scores.records, scores.anomaly_maps, strict=True):
        picture = np.asarray(Image.open(tmp_path / "out" / name))
        assert picture.shape == (SIDE, 3 * SIDE, 3)
        original = Image.open(record.image).resize((SIDE, SIDE))
        assert np.array_equal(picture[:, :SIDE], np.asarray(original))
        mask = scores.preprocess.mask(record)
        expected = triptych(np.asarray(original), mask, anomaly_map, high=high, threshold=threshold)
        assert np.array_equal(picture, expected)


def test_images_of_one_name_keep_their_own_files(scores, tmp_path) -> None:
    twice = Scores(
        [scores.records[0]] * 2, scores.preprocess, scores.image_scores[:2], scores.anomaly_maps[:2]
    )
    write_triptychs(twice, tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_without_maps_there_is_nothing_and_without_truth_no_outline(scores, tmp_path) -> None:
    write_triptychs(Scores(scores.records, scores.preprocess, scores.image_scores, None), tmp_path / "none")
    assert not (tmp_path / "none").exists()
    bare = replace(scores, records=[replace(record, mask=None) for record in scores.records])
    write_triptychs(bare, tmp_path / "bare")
    assert not (np.asarray(Image.open(tmp_path / "bare" / "spot_000.png")) == OUTLINE).all(axis=-1).any()
