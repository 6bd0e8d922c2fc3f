"""One detector, several categories: standard numbers, a paper's, pictures, and the threshold."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adcommon.data import load_splits
from adcommon.data.loading import AnomalyDataset, cut
from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.collect import kept
from adcommon.evaluation.evaluate import evaluate, has_both, interim_values, threshold_of
from adcommon.models.feature_store import FeatureStore
from adcommon.testing.trees import make_mvtec
from adcommon.types.prediction import Prediction
from adcommon.types.records import Split
from adcommon.types.threshold import calibrate


class Brightness:
    """Scores by brightness; its frozen network leaves images as they are."""

    tag = "identity"
    strides = (1,)
    preprocess = Preprocess(image_size=32)

    def score(self, images: Tensor) -> Prediction:
        maps = images.mean(dim=1)
        return Prediction(maps.amax((1, 2)), maps, {"mean": maps.mean((1, 2))})

    def score_features(self, levels: Sequence[Tensor]) -> Prediction:
        return self.score(levels[0])

    def __call__(self, images: Tensor) -> list[Tensor]:
        return [images]

    def parameters(self):
        return iter([Tensor()])

    def state_dict(self):
        return {}


@pytest.fixture
def splits(tmp_path: Path) -> dict[str, Split]:
    make_mvtec(tmp_path / "mvtec", categories=("bottle", "cable"))
    return {name: load_splits("mvtec", tmp_path, (name,))[name] for name in ("bottle", "cable")}


def mean_protocol(scores, standard):
    return standard.under("mean", extra={"mean": float(scores.extra_scores["mean"].mean())})


def test_each_category_has_the_standard_numbers_and_then_the_papers(splits, tmp_path: Path) -> None:
    tests = {name: split.test for name, split in splits.items()}
    drawn: list[Path] = []
    found = evaluate(
        Brightness(),
        tests,
        batch_size=2,
        protocols=[mean_protocol],
        threshold=calibrate([0.5] * 19),
        maps=tmp_path / "maps",
        pictures=[lambda scores, folder, threshold: drawn.append(folder)],
    )
    assert [(entry.category, entry.protocol) for entry in found] == [
        *(("bottle", "standard"), ("bottle", "mean")),
        *(("cable", "standard"), ("cable", "mean")),
    ]
    assert set(found[0].extra) == {"detection_rate", "false_alarm_rate"}
    assert set(found[1].extra) == {"mean"}
    assert found[0].aupro is not None
    assert drawn == [tmp_path / "maps" / "bottle", tmp_path / "maps" / "cable"]


def test_what_is_measured_beside_the_scoring_is_the_same_in_the_same_order(splits, monkeypatch) -> None:
    tests = {name: splits["cable"].test for name in ("first", "second", "third")} | {
        "last": splits["bottle"].test
    }
    alone = evaluate(Brightness(), tests, batch_size=2, protocols=[mean_protocol])
    monkeypatch.setattr("adcommon.evaluation.evaluate.device_of", lambda detector: torch.device("cuda"))
    threads = set()

    def protocol(scores, standard):
        threads.add(threading.current_thread())
        return mean_protocol(scores, standard)

    assert evaluate(Brightness(), tests, batch_size=2, protocols=[protocol]) == alone
    assert len(alone) == 8
    assert threading.main_thread() not in threads


def test_in_bounded_memory_each_value_is_in_its_interval_and_all_else_is_the_same(
    splits, tmp_path: Path, monkeypatch, caplog
) -> None:
    tests = {"bottle": splits["bottle"].test}
    threshold = calibrate([0.5] * 19, peaks=[0.4 + number / 100 for number in range(19)])
    measured = partial(evaluate, Brightness(), tests, batch_size=2, threshold=threshold)
    (exact,) = measured(maps=tmp_path / "exact")

    def without_maps(predictions, dataset, *, keep_maps):
        predictions = list(predictions)
        assert all(prediction.anomaly_maps is None for _, prediction in predictions)
        return kept(iter(predictions), dataset, keep_maps=keep_maps)

    with monkeypatch.context() as patched:
        patched.setattr("adcommon.evaluation.evaluate.kept", without_maps)
        (bounded,) = measured(maps=tmp_path / "bounded", metrics="bounded")
    assert list(bounded.certified) == ["pixel_auroc", "pixel_ap", "pixel_f1max", "aupro", "aupro_05"]
    for name, (low, high) in bounded.certified.items():
        assert low - 1e-10 <= getattr(exact, name) <= high + 1e-10
        assert high - low < 1e-3
    differing = {name: getattr(exact, name) for name in (*bounded.certified, "pixel_threshold", "certified")}
    assert replace(bounded, **differing) == exact
    ours, theirs = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.*") if file.is_file()}
        for folder in (tmp_path / "exact", tmp_path / "bounded")
    )
    assert len(ours) > 2 * len(tests["bottle"])
    assert ours == theirs
    assert "stay exact" not in caplog.text
    whole = measured(protocols=[mean_protocol], metrics="bounded")
    assert whole == measured(protocols=[mean_protocol])
    assert "metrics stay exact, of all maps in memory: the paper's own protocol needs these" in caplog.text


def test_kept_features_give_the_same_numbers(splits) -> None:
    detector = Brightness()
    tests = {"bottle": splits["bottle"].test}
    dataset = AnomalyDataset(tests["bottle"], detector.preprocess)
    store = FeatureStore(detector, dataset, 4, memory_bytes=0)
    kept = evaluate(detector, tests, batch_size=3, stores={"bottle": store})
    assert kept == evaluate(detector, tests, batch_size=2)


def test_interim_values_are_named_by_category_and_metric(splits) -> None:
    tests = {name: split.test for name, split in splits.items() if has_both(split.test)}
    values = interim_values(evaluate(Brightness(), tests, batch_size=4))
    metrics = ("image_auroc", "pixel_auroc", "aupro")
    assert list(values) == [f"{name}/{metric}" for name in splits for metric in metrics]
    assert not has_both(splits["bottle"].train)


def test_the_threshold_comes_from_images_held_out_or_there_is_none(splits) -> None:
    detector = Brightness()
    assert threshold_of(detector, [], false_alarm_rate=0.2, batch_size=2) is None
    records = splits["bottle"].train
    found = threshold_of(detector, records, false_alarm_rate=0.2, batch_size=2)
    assert found is not None
    assert found.images == len(records)
    scores = detector.score(AnomalyDataset(records, detector.preprocess).batch(range(len(records))).images)
    assert found.value in scores.image_scores.tolist()


def test_images_that_are_cut_are_measured_whole(splits, tmp_path: Path) -> None:
    """By tiles of half their size a spot is no darker or brighter: the numbers are those of the pixels."""
    tests = {"bottle": splits["bottle"].test}
    width, height = Preprocess().size_of(tests["bottle"][0].image)
    tiled = Brightness()
    tiled.preprocess = Preprocess(image_size=width // 2, tile=width // 2, overlap=4)
    assert len(tiled.preprocess.boxes(width, height)) > 1
    whole = Brightness()
    whole.preprocess = Preprocess(image_size=width)
    store = FeatureStore(tiled, AnomalyDataset(cut(tests["bottle"], tiled.preprocess), tiled.preprocess), 3)
    (expected,) = evaluate(whole, tests, batch_size=2)
    for stores in (None, {"bottle": store}):
        (found,) = evaluate(
            tiled, tests, batch_size=3, protocols=[mean_protocol], stores=stores, maps=tmp_path / "maps"
        )
        assert found.map_size == f"{height}x{width}"
        assert found.image_auroc == expected.image_auroc
        assert found.pixel_auroc == pytest.approx(expected.pixel_auroc, abs=1e-6)
        assert found.aupro == pytest.approx(expected.aupro, abs=1e-6)
    (bounded,) = evaluate(tiled, tests, batch_size=3, metrics="bounded")
    assert bounded.certified["aupro"][0] - 1e-6 <= expected.aupro <= bounded.certified["aupro"][1] + 1e-6
    assert (tmp_path / "maps" / "index.html").exists()
