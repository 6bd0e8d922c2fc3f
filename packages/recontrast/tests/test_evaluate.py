from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adcommon.data import load_splits
from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.measure import measure
from adcommon.results.rows import row
from adcommon.testing.trees import make_class_folders, make_mvtec
from recontrast.evaluate import facts, paper_protocol, write_reference_pictures
from recontrast.recipes import APTOS, MVTEC, MVTEC_MULTICLASS


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    """Random maps for a drawn category with masks."""
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    records = load_splits("mvtec", tmp_path, ("bottle",))["bottle"].test
    maps = np.random.default_rng(0).random((len(records), 64, 64), dtype=np.float32)
    return Scores(records, Preprocess(image_size=64, mask_rule="any"), maps.max(axis=(1, 2)), maps)


def test_the_paper_counts_grown_masks_and_each_anomalous_image_alone(scores: Scores) -> None:
    standard = measure(scores, category="bottle")
    paper = paper_protocol(scores, standard, MVTEC)
    assert paper.protocol == "recontrast"
    assert paper.image_auroc == standard.image_auroc
    assert paper.aupro is not None
    assert paper.aupro != standard.aupro
    assert paper.pixel_ap is None


def test_the_multi_class_protocol_has_pixel_ap_and_no_aupro(scores: Scores) -> None:
    paper = paper_protocol(scores, measure(scores, category="bottle"), MVTEC_MULTICLASS)
    assert paper.pixel_ap is not None
    assert paper.aupro is None


def test_with_masks_of_the_networks_size_both_protocols_agree_on_pixels(scores: Scores) -> None:
    unresized = replace(scores.preprocess, mask_rule="nearest")
    same = Scores(scores.records, unresized, scores.image_scores, scores.anomaly_maps)
    standard = measure(same, category="bottle")
    paper = paper_protocol(same, standard, MVTEC)
    assert paper.pixel_auroc == pytest.approx(standard.pixel_auroc, abs=1e-12)


def test_without_masks_the_paper_reports_f1_and_accuracy(tmp_path: Path) -> None:
    make_class_folders(tmp_path / "APTOS")
    records = load_splits("aptos", tmp_path)["APTOS"].test
    labels = np.array([record.label for record in records], dtype=np.float32)
    scores = Scores(records, Preprocess(image_size=64), labels, None)
    standard = measure(scores, category="APTOS")
    paper = paper_protocol(scores, standard, APTOS)
    assert paper.extra == {"image_f1": 1.0, "image_accuracy": 1.0}
    entry = row(paper, facts(APTOS, "random"), seconds=1.0)
    assert (entry["dataset"], entry["setting"], entry["image_auroc"]) == ("aptos", "one-class", 1.0)


def test_the_authors_pictures_are_named_as_theirs(scores: Scores, tmp_path: Path) -> None:
    write_reference_pictures(scores, tmp_path / "maps")
    names = {path.name for path in (tmp_path / "maps").iterdir()}
    first = scores.records[0]
    assert {f"{first.defect}_{first.image.stem}_{kind}.png" for kind in ("seg", "cam")} <= names
    assert len(names) == 2 * len(scores.records)
