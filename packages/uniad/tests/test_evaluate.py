import logging
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from adcommon.data import load_splits
from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.collect import collect
from adcommon.evaluation.evaluate import evaluate as evaluate_detector
from adcommon.types.records import Evaluation
from uniad.data import feature_store
from uniad.detector import UniADDetector
from uniad.evaluate import Best, key_metric, pictures, protocols, save_features

PREPROCESS = Preprocess(image_size=64)


@pytest.fixture
def tests(mvtec):
    return {name: split.test for name, split in load_splits("mvtec", mvtec, ("bottle", "cable")).items()}


@pytest.fixture
def detector(make_model) -> UniADDetector:
    return UniADDetector(make_model(), PREPROCESS)


def evaluate(detector, tests, recipe, **options) -> list[Evaluation]:
    return evaluate_detector(detector, tests, batch_size=4, protocols=protocols(recipe), **options)


def test_each_category_gets_a_standard_row_and_the_papers(detector, tests, tiny) -> None:
    evaluations = evaluate(detector, tests, tiny)
    assert [(e.category, e.protocol) for e in evaluations] == [
        *(("bottle", "standard"), ("bottle", "uniad"), ("cable", "standard"), ("cable", "uniad"))
    ]
    paper = evaluations[1]
    assert set(paper.extra) == {"max_auroc", "mean_auroc", "std_auroc"}
    assert paper.image_auroc == paper.extra["max_auroc"]
    assert paper.aupro is None
    assert [e.protocol for e in evaluate(detector, tests, replace(tiny, protocol="standard"))] == [
        "standard",
        "standard",
    ]


def test_the_papers_columns_are_scikit_learns_on_the_same_maps(detector, tests, tiny) -> None:
    scores = collect(detector, AnomalyDataset(tests["bottle"], PREPROCESS), batch_size=4)
    paper = evaluate(detector, {"bottle": tests["bottle"]}, tiny)[1]
    labels = scores.labels
    maps = scores.anomaly_maps
    by_hand = {"mean_auroc": maps.mean(axis=(1, 2)), "std_auroc": maps.std(axis=(1, 2))}
    for name, values in by_hand.items():
        assert paper.extra[name] == pytest.approx(roc_auc_score(labels, values))
    masks = np.stack([PREPROCESS.mask(record) for record in tests["bottle"]])
    assert paper.pixel_auroc == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    assert np.array_equal(scores.extra_scores["max"], scores.image_scores)


def test_low_values_are_mirrored_only_when_asked_for(detector, tests, tiny) -> None:
    plain = {e.category: e.extra for e in evaluate(detector, tests, tiny) if e.protocol == "uniad"}
    mirrored = {
        e.category: e.extra
        for e in evaluate(detector, tests, replace(tiny, reference_auroc=True))
        if e.protocol == "uniad"
    }
    for category, extra in plain.items():
        for name, value in extra.items():
            assert mirrored[category][name] == pytest.approx(max(value, 1 - value))


def test_a_mask_that_vanishes_is_reported_and_counts_as_the_reference_counts_it(
    detector, tests, tiny, caplog
) -> None:
    record = next(record for record in tests["bottle"] if record.label)
    Image.fromarray(np.zeros((64, 64), dtype=np.uint8)).save(record.mask)
    with caplog.at_level(logging.WARNING):
        standard, paper = evaluate(detector, {"bottle": tests["bottle"]}, tiny)
    assert "1 anomalous images have an empty mask" in caplog.text
    assert (standard.anomalous, paper.anomalous) == (3, 2)


def test_without_masks_the_columns_go_by_the_folder_and_pixels_stay_out(detector, tests, tiny) -> None:
    unmasked = [replace(record, mask=None) for record in tests["bottle"]]
    _, paper = evaluate(detector, {"bottle": unmasked}, tiny)
    assert paper.pixel_auroc is None
    assert paper.anomalous == 3


def test_kept_features_give_the_numbers_of_the_images(detector, tests, tiny) -> None:
    stores = {
        name: feature_store(detector.model, records, PREPROCESS, cache=False)
        for name, records in tests.items()
    }
    for kept, direct in zip(
        evaluate(detector, tests, tiny, stores=stores), evaluate(detector, tests, tiny), strict=True
    ):
        assert kept.image_auroc == direct.image_auroc
        assert kept.pixel_auroc == pytest.approx(direct.pixel_auroc, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "tiles"), [("compound", {"good": 2, "spot": 4}), ("single", {"good": 1, "spot": 1})]
)
def test_the_references_pictures_have_the_images_own_size(detector, tests, tmp_path, kind, tiles) -> None:
    scores = collect(detector, AnomalyDataset(tests["bottle"], PREPROCESS), batch_size=4)
    for write in pictures(kind):
        write(scores, tmp_path / "maps", None)
    for record in tests["bottle"]:
        with Image.open(tmp_path / "maps" / record.defect / f"{record.image.stem}.png") as picture:
            assert picture.size == (64, 64 * tiles[record.defect])


def test_saved_features_are_what_the_transformer_rebuilds(detector, tests, tmp_path) -> None:
    save_features(detector, {"bottle": tests["bottle"]}, tmp_path / "features", batch_size=4)
    record = tests["bottle"][0]
    stored = np.load(tmp_path / "features" / "bottle" / record.defect / f"{record.image.stem}.npy")
    assert (stored.shape, stored.dtype) == ((104, 4, 4), np.float32)
    batch = AnomalyDataset(tests["bottle"], PREPROCESS).batch([0])
    np.testing.assert_allclose(stored, detector.model(batch.images).rebuilt[0].detach(), atol=1e-4)


def evaluation(image: float, pixel: float | None) -> Evaluation:
    return Evaluation(
        category="bottle",
        normal=1,
        anomalous=1,
        image_auroc=image,
        image_ap=0.5,
        image_f1max=0.5,
        image_threshold=0.5,
        pixel_auroc=pixel,
    )


def test_the_best_is_chosen_by_pixels_where_there_are_any() -> None:
    assert key_metric([evaluation(0.9, 0.4), evaluation(0.7, 0.6)]) == pytest.approx(0.5)
    assert key_metric([evaluation(0.9, None), evaluation(0.7, None)]) == pytest.approx(0.8)
    assert key_metric([]) is None


def test_a_worse_result_is_not_the_best_after_a_resume_either() -> None:
    best = Best()
    assert best.takes([evaluation(0.5, 0.6)])
    assert not best.takes([evaluation(0.9, 0.5)])
    resumed = Best()
    resumed.load_state_dict(best.state_dict())
    assert not resumed.takes([evaluation(0.9, 0.5)])
    assert not resumed.takes([evaluation(0.9, float("nan"))])
    assert resumed.takes([evaluation(0.1, 0.6)])
    assert not resumed.takes([])
