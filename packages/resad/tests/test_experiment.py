from pathlib import Path

import pytest

import resad
from adcommon.data import load_splits
from adcommon.errors import BadValue
from adcommon.io.images import list_images
from adcommon.io.model_folder import read_config
from resad.checkpoint import load_detector
from resad.recipes import Recipe


def test_without_targets_a_model_is_trained_that_waits_for_references(trees: Path, recipe: Recipe) -> None:
    seen = load_splits("mvtec", trees, ("bottle", "cable"))
    fitted = resad.fit(recipe, seen, out=trees / "run", device="cpu", weights="random", cache=False)
    assert fitted.rows == []
    (folder,) = fitted.models.values()
    config = read_config(folder)
    assert (config["dataset"], config["trained_on"], config["categories"]) == ("folder", "mvtec", [])
    assert (config["category"], config["references"]) == ("bottle+cable", {})
    with pytest.raises(BadValue, match="--references DIR"):
        load_detector(folder)
    load_detector(folder, references=list_images(trees / "visa/candle/train/good")[:2])


def test_targets_are_tested_and_their_references_recorded(
    trees: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    (seen,) = load_splits("mvtec", trees, ("bottle",)).values()
    (unseen,) = load_splits("visa", trees, ("candle",)).values()
    fitted = resad.fit(
        recipe, seen, targets=unseen, out=trees / "run", device="cpu", weights="random", cache=False
    )
    assert {(row["category"], row["dataset"], row["trained_on"]) for row in fitted.rows} == {
        ("candle", "visa", "mvtec")
    }
    assert fitted.model.category == "bottle"
    assert f"the authors' files are in {trees / 'run/checkpoints'}" in capsys.readouterr().out


def test_no_data_is_said(trees: Path, recipe: Recipe) -> None:
    with pytest.raises(BadValue, match="no data was given"):
        resad.fit(recipe, {}, out=trees / "run")
