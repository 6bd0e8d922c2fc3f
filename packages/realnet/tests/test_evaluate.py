import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data import load_splits
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.measure import measure
from realnet.detector import make_detector, make_preprocess
from realnet.evaluate import evaluate, paper_protocol, report_row
from realnet.metrics import realnet_pro


def images_of(mvtec: Path) -> dict:
    return {name: split.test for name, split in load_splits("mvtec", mvtec, ("bottle", "cable")).items()}


def scores_of(mvtec: Path, tiny, *, inverted: bool = False) -> Scores:
    """Maps that are the truth itself, a little noisy."""
    records = images_of(mvtec)["bottle"]
    preprocess = make_preprocess(tiny)
    masks = np.stack([preprocess.mask(record.mask, record.image) for record in records])
    maps = (masks + np.random.default_rng(0).random(masks.shape) / 10).astype(np.float32)
    maps = 1.1 - maps if inverted else maps
    return Scores(records, preprocess, maps.max(axis=(1, 2)), maps)


def test_each_category_has_a_standard_and_a_paper_row(mvtec, tiny, make_model, tmp_path) -> None:
    detector = make_detector(make_model(), make_preprocess(tiny), tiny, "cpu")
    found = evaluate(detector, images_of(mvtec), tiny, threshold=0.5, maps=tmp_path / "m", kind="triptych")
    assert [(row.category, row.protocol) for row in found] == [
        *(("bottle", "standard"), ("bottle", "realnet"), ("cable", "standard"), ("cable", "realnet"))
    ]
    assert set(found[0].extra) == {"detection_rate", "false_alarm_rate"}
    pictures = sorted(path.name for path in (tmp_path / "m" / "cable").iterdir())
    assert pictures == [*(f"good_00{n}.png" for n in range(3)), *(f"spot_00{n}.png" for n in range(3))]
    assert Image.open(tmp_path / "m" / "cable" / "spot_000.png").size == (3 * 64, 64)
    standard = evaluate(detector, images_of(mvtec), replace(tiny, protocol="standard"))
    assert [row.protocol for row in standard] == ["standard", "standard"]


def test_the_papers_columns_are_its_own(mvtec, tiny) -> None:
    scores = scores_of(mvtec, tiny)
    standard = measure(scores, category="bottle")
    paper = paper_protocol(scores, standard, tiny)
    assert (paper.protocol, paper.image_auroc, paper.pixel_auroc) == ("realnet", 1.0, 1.0)
    masks = np.stack([scores.preprocess.mask(record.mask, record.image) for record in scores.records])
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


def test_rows_say_how_the_model_was_chosen(mvtec, tiny) -> None:
    standard = measure(scores_of(mvtec, tiny), category="bottle")
    row = report_row(standard, tiny, "random", 1.5, "best-on-test")
    assert (row["method"], row["setting"], row["selection"]) == ("realnet", "one-class", "best-on-test")
