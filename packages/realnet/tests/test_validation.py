import json
from dataclasses import replace
from pathlib import Path

import pytest

from adcommon.data import load_splits
from adcommon.training.settings import Settings
from adcommon.types.records import Evaluation
from realnet.detector import make_preprocess
from realnet.validation import Validation, key_metric

SETTINGS = Settings(weights="random", cache=False)


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


@pytest.fixture
def validation(mvtec: Path, tiny, make_model, monkeypatch) -> Validation:
    """One whose measurements are what `results` says, one after the other."""
    split = load_splits("mvtec", mvtec, ("bottle",))["bottle"]
    recipe = replace(tiny, keep_best=True)
    made = Validation(make_model(), make_preprocess(tiny), "bottle", split.test, recipe, SETTINGS)
    made.results = iter(())  # type: ignore[attr-defined]
    monkeypatch.setattr(made, "_evaluate", lambda **_: next(made.results))  # type: ignore[attr-defined]
    return made


def test_the_best_is_the_mean_of_both_areas_by_the_papers_labels() -> None:
    rows = [evaluation(0.1, 0.1, "standard"), evaluation(0.8, 0.6)]
    assert key_metric(rows) == pytest.approx(0.7)
    assert key_metric([evaluation(0.8, None)]) == 0.8


def test_the_latest_of_equally_good_models_is_kept_and_named_an_oracle(validation, tmp_path) -> None:
    validation.results = iter([[evaluation(0.9, 0.7)], [evaluation(0.7, 0.9)], [evaluation(0.6, 0.6)]])
    for step in (1, 2, 3):
        validation.interim(step, tmp_path / "best")
    config = json.loads((tmp_path / "best" / "config.json").read_text())
    assert config["step"] == 2
    assert config["metrics"][0]["selection"] == "best-on-test"
    assert config["threshold"] is None


def test_a_run_reports_the_last_model_and_the_best_one_with_their_names(validation, tmp_path) -> None:
    validation.results = iter([[evaluation(0.9, 0.9)], [evaluation(0.8, 0.8)]])
    validation.interim(1, tmp_path / "best")
    rows = validation.final(2, [], folder=tmp_path / "model", best_folder=tmp_path / "best", maps=None)
    assert [(row["selection"], row["image_auroc"]) for row in rows] == [("last", 0.8), ("best-on-test", 0.9)]
    assert json.loads((tmp_path / "model" / "config.json").read_text())["step"] == 2


def test_the_last_model_may_be_the_best(validation, tmp_path) -> None:
    validation.results = iter([[evaluation(0.5, 0.5)], [evaluation(0.8, 0.8)]])
    validation.interim(1, tmp_path / "best")
    validation.final(2, [], folder=tmp_path / "model", best_folder=tmp_path / "best", maps=None)
    assert json.loads((tmp_path / "best" / "config.json").read_text())["step"] == 2


def test_what_was_best_survives_a_stop(validation, tmp_path) -> None:
    validation.results = iter([[evaluation(0.9, 0.9)], [evaluation(0.8, 0.8)]])
    validation.interim(1, tmp_path / "best")
    state = validation.state_dict()
    validation.best, validation.best_rows = -1.0, []
    validation.load_state_dict(state)
    validation.interim(2, tmp_path / "best")
    assert json.loads((tmp_path / "best" / "config.json").read_text())["step"] == 1


def test_nothing_is_kept_that_nobody_asked_for(validation, tmp_path) -> None:
    validation.recipe = replace(validation.recipe, keep_best=False)
    validation.results = iter([[evaluation(0.9, 0.9)], [evaluation(0.9, 0.9)]])
    validation.interim(1, tmp_path / "best")
    rows = validation.final(2, [], folder=tmp_path / "model", best_folder=tmp_path / "best", maps=None)
    assert [row["selection"] for row in rows] == ["last"]
    assert not (tmp_path / "best").exists()


def test_without_both_kinds_of_images_nothing_is_measured_on_the_way(mvtec, tiny, make_model, tmp_path):
    split = load_splits("mvtec", mvtec, ("bottle",))["bottle"]
    normal = [record for record in split.test if record.label == 0]
    made = Validation(make_model(), make_preprocess(tiny), "bottle", normal, tiny, SETTINGS)
    assert made.interim(1, tmp_path / "best") == {}
