import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adcommon.data import load_splits
from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.collect import Scores, collect
from adcommon.evaluation.maps import write_maps
from adcommon.evaluation.measure import maps_with_masks, measure, with_decision
from adcommon.metrics import auroc
from adcommon.results.scores import read_scores
from adcommon.testing.trees import make_class_folders, make_mvtec
from adcommon.types.prediction import Prediction
from adcommon.types.records import has_pixel_truth
from adcommon.types.threshold import calibrate


class Darkness:
    """Scores how dark an image is: enough to have maps that follow the images."""

    def __init__(self, preprocess: Preprocess, *, maps: bool = True) -> None:
        self.preprocess = preprocess
        self.maps = maps

    def score(self, images: torch.Tensor) -> Prediction:
        maps = -images.mean(dim=1)
        return Prediction(maps.amax(dim=(1, 2)), maps if self.maps else None)


@pytest.fixture
def dataset(tmp_path: Path) -> AnomalyDataset:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",), size=96)
    return AnomalyDataset(
        load_splits("mvtec", tmp_path, ("bottle",))["bottle"].test, Preprocess(image_size=64)
    )


def test_scores_stand_in_the_order_of_the_records_whatever_the_batch(dataset: AnomalyDataset) -> None:
    detector = Darkness(dataset.preprocess)
    whole, single = (collect(detector, dataset, batch_size=size) for size in (len(dataset), 1))
    assert np.array_equal(whole.image_scores, single.image_scores)
    assert np.array_equal(whole.anomaly_maps, single.anomaly_maps)
    assert whole.labels.tolist() == [record.label for record in dataset.records]


def test_the_masks_as_maps_are_a_perfect_detector(dataset: AnomalyDataset) -> None:
    maps = np.stack([dataset.preprocess.mask(record) for record in dataset.records]).astype(np.float32)
    scores = Scores(dataset.records, dataset.preprocess, maps.max(axis=(1, 2)), maps)
    evaluation = measure(scores, category="bottle")
    assert (evaluation.image_auroc, evaluation.pixel_auroc, evaluation.aupro) == (1.0, 1.0, 1.0)
    assert evaluation.map_size == "64x64"
    assert evaluation.regions is not None


def test_original_size_uses_the_masks_as_they_are_stored(dataset: AnomalyDataset) -> None:
    scores = collect(Darkness(dataset.preprocess), dataset, batch_size=4)
    for _, anomaly_map, mask in maps_with_masks(scores, "original"):
        assert anomaly_map.shape == mask.shape == (96, 96)
    evaluation = measure(scores, category="bottle", eval_size="original")
    assert evaluation.map_size == "original"
    pairs = list(maps_with_masks(scores, "original"))
    pooled = auroc(
        np.concatenate([anomaly_map.ravel() for _, anomaly_map, _ in pairs]),
        np.concatenate([mask.ravel() for _, _, mask in pairs]).astype(int),
    )
    assert evaluation.pixel_auroc == pytest.approx(pooled, abs=1e-12)


def test_without_masks_or_maps_there_are_no_pixel_metrics(dataset: AnomalyDataset, tmp_path: Path) -> None:
    without_maps = collect(Darkness(dataset.preprocess, maps=False), dataset, batch_size=4)
    assert measure(without_maps, category="bottle").pixel_auroc is None
    make_class_folders(tmp_path / "APTOS")
    medical = AnomalyDataset(load_splits("aptos", tmp_path)["APTOS"].test, Preprocess(image_size=64))
    assert not has_pixel_truth(medical.records)
    assert (
        measure(collect(Darkness(medical.preprocess), medical, batch_size=4), category="APTOS").aupro is None
    )


def test_the_decision_rates_are_shares_of_each_label(dataset: AnomalyDataset) -> None:
    labels = np.array([record.label for record in dataset.records])
    scores = Scores(dataset.records, dataset.preprocess, labels.astype(np.float32), None)
    decided = with_decision(measure(scores, category="bottle"), scores, 0.5)
    assert decided.extra == {"detection_rate": 1.0, "false_alarm_rate": 0.0}
    assert with_decision(decided, scores, 1.0).extra["detection_rate"] == 0.0


def test_pictures_in_the_images_own_size_are_written_for_every_image(
    dataset: AnomalyDataset, tmp_path: Path
) -> None:
    scores = collect(Darkness(dataset.preprocess), dataset, batch_size=4)
    write_maps(scores, tmp_path)
    for record in dataset.records:
        name = f"{record.defect}/{record.image.stem}"
        for picture in (f"{name}.jpg", f"layers/plain/{name}.jpg", f"layers/small/{name}.jpg"):
            with Image.open(record.image) as image, Image.open(tmp_path / picture) as drawn:
                assert drawn.size == image.size
        assert (tmp_path / "layers/truth" / f"{name}.png").exists() == (record.mask is not None)


def test_scores_are_written_beside_the_pictures(dataset: AnomalyDataset, tmp_path: Path) -> None:
    scores = collect(Darkness(dataset.preprocess), dataset, batch_size=4)
    write_maps(scores, tmp_path, calibrate([float(scores.image_scores.mean())] * 19))
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["image"] for line in lines] == [str(record.image) for record in dataset.records]
    assert [float(line["score"]) for line in lines] == scores.image_scores.tolist()
    for line in lines:
        above = float(line["score"]) > float(line["threshold"])
        assert line["decision"] == ("anomalous" if above else "normal")
    (again,) = read_scores(tmp_path)
    assert sorted(scores.image_scores.tolist()) == sorted(again.scores)
    assert set(again.images) == {str(record.image) for record in dataset.records}
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for record in dataset.records:
        assert f'"{record.defect}/{record.image.stem}.jpg"' in page
