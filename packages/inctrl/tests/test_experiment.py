import json
from dataclasses import replace
from pathlib import Path

import pytest

import adcommon
import inctrl
from adcommon.data import load_splits
from adcommon.errors import BadValue, EmptySplit


def test_fit_trains_on_labelled_images_and_tests_on_other_categories(data_root: Path, tiny) -> None:
    labelled = load_splits("mvtec", data_root, ("bottle", "cable"))
    (target,) = load_splits("visa", data_root, ("candle",)).values()
    fitted = inctrl.fit(tiny, labelled, targets=target, out=data_root / "run", weights="random", device="cpu")
    assert [(row["dataset"], row["category"], row["references"]) for row in fitted.rows] == [
        *(("visa", "candle", "seed 0"), ("visa", "candle", "seed 1"))
    ]
    config = json.loads((fitted.models["all"] / "config.json").read_text())
    assert config["recipe"]["test_datasets"] == ["visa/candle"]
    assert config["categories"] == ["bottle", "cable"]
    references = data_root / "VisA_pytorch" / "1cls" / "candle" / "train" / "good"
    model = adcommon.load(fitted.models["all"], references=references, device="cpu")
    assert 0 < model.predict(target.test[0].image).score < 1


def test_fit_without_targets_leaves_a_model_and_no_rows(data_root: Path, tiny) -> None:
    labelled = load_splits("mvtec", data_root, ("bottle",))["bottle"]
    once = replace(tiny, epochs=1)
    fitted = inctrl.fit(once, labelled, out=data_root / "run", weights="random", device="cpu")
    assert fitted.rows == []
    assert json.loads((fitted.models["all"] / "config.json").read_text())["metrics"] == []
    again = inctrl.fit(once, labelled, out=data_root / "run", weights="random", device="cpu", resume=True)
    assert again.models == fitted.models


def test_data_that_cannot_be_learnt_from_is_refused_before_the_training(data_root: Path, tiny) -> None:
    labelled = load_splits("mvtec", data_root, ("bottle",))["bottle"]
    normal = replace(labelled, test=[])
    with pytest.raises(EmptySplit, match="no anomalous images"):
        inctrl.fit(tiny, normal, out=data_root / "run", weights="random", device="cpu")
    with pytest.raises(BadValue, match="no data was given"):
        inctrl.fit(tiny, {}, out=data_root / "other")
