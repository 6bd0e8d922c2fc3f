import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from adcommon.data import load_splits
from adcommon.errors import DatasetNotFound, UnreadableImage
from adcommon.io.model_folder import TENSORS
from adcommon.io.schema import build
from adcommon.models.pickles import read_safetensors
from adcommon.testing.commands import read_table
from adcommon.testing.runs import stopped_and_resumed
from adcommon.training.run import Run, RunGroup
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from realnet.recipes import Recipe
from realnet.train import check_inputs, train

SETTINGS = Settings(weights="random", cache=False)


def run_once(root: Path, name: str, recipe: Recipe) -> tuple[list[dict], dict[str, torch.Tensor]]:
    split = load_splits("mvtec", root, ("bottle",))["bottle"]
    run = RunGroup(root / name).run("bottle")
    rows = train(recipe, "bottle", split, run, Accelerator(cpu=True), SETTINGS, StopSignal())
    return rows, read_safetensors(run.model / TENSORS)


def table(root: Path, name: str) -> list[dict[str, str]]:
    return read_table(root / name / "bottle" / "metrics.csv")


def losses(root: Path, name: str) -> list[float]:
    return [float(row["loss"]) for row in table(root, name)]


@pytest.fixture(scope="module")
def plain(shared_mvtec: Path, tiny: Recipe) -> dict[str, torch.Tensor]:
    """The model after four steps; the folder of its training is `shared_mvtec`/plain."""
    return run_once(shared_mvtec, "plain", replace(tiny, iterations=4))[1]


def test_two_runs_with_one_seed_end_in_the_same_bits_and_another_seed_does_not(
    shared_mvtec, tiny, plain
) -> None:
    _, second = run_once(shared_mvtec, "second", replace(tiny, iterations=4))
    run_once(shared_mvtec, "other", replace(tiny, seed=5, iterations=1))
    assert all(torch.equal(plain[name], second[name]) for name in second)
    assert losses(shared_mvtec, "other")[0] != losses(shared_mvtec, "plain")[0]


@pytest.mark.parametrize("keep", [True, False], ids=["kept maps", "computed maps"])
def test_a_stopped_and_resumed_run_ends_in_the_bits_of_an_unbroken_one(
    shared_mvtec, tiny, keep, tmp_path, monkeypatch
) -> None:
    recipe = replace(tiny, keep_best=True, cache_features=keep)
    split = load_splits("mvtec", shared_mvtec, ("bottle",))["bottle"]
    rows = []

    def trains(run: Run, resume: bool, stop: StopSignal) -> None:
        settings = replace(SETTINGS, resume=resume)
        if resume:  # the channels are not chosen again: calling it would fail
            monkeypatch.setattr("realnet.train.select_channels", None)
        rows.append(train(recipe, "bottle", split, run, Accelerator(cpu=True), settings, stop))

    whole, parts = stopped_and_resumed(trains, tmp_path, questions=5, step=5)
    assert whole.best_model.is_dir()
    state = torch.load(parts.state, weights_only=True)
    assert "indexes.block2_layer2" in state["parts"]["afs"]
    first, second = ([{**row, "seconds": 0} for row in found] for found in rows)
    assert first == second


def test_kept_maps_change_no_number_beyond_rounding(shared_mvtec, tiny, plain) -> None:
    run_once(shared_mvtec, "computed", replace(tiny, iterations=4, cache_features=False))
    assert losses(shared_mvtec, "computed") == pytest.approx(losses(shared_mvtec, "plain"), rel=1e-3)


def test_channels_are_chosen_on_anomalies_alone_and_never_change(shared_mvtec, tiny, plain) -> None:
    _, short = run_once(shared_mvtec, "short", replace(tiny, iterations=1))
    kept = plain["afs.indexes.block2_layer2"]
    assert torch.equal(kept, short["afs.indexes.block2_layer2"])
    assert torch.equal(kept, kept.sort().values)
    assert len(kept.unique()) == 64
    assert not torch.equal(kept, torch.arange(64))
    assert torch.equal(plain["afs.indexes.block1_layer1"], torch.arange(64))
    frozen = [name for name in plain if name.startswith("backbone.")]
    assert all(torch.equal(plain[name], short[name]) for name in frozen)


def test_every_step_has_its_losses_and_some_their_measurements(shared_mvtec, tiny) -> None:
    run_once(shared_mvtec, "weighted", replace(tiny, feature_weight=2.0))
    rows = table(shared_mvtec, "weighted")
    assert [int(row["step"]) for row in rows] == list(range(1, 9))
    for row in rows:
        parts = float(row["segmentation"]) + 2 * float(row["features"])
        assert float(row["loss"]) == pytest.approx(parts)
    assert [int(row["step"]) for row in rows if row["image_auroc"]] == [4]


def test_the_model_folder_says_everything_about_itself(shared_mvtec, tiny, caplog) -> None:
    with caplog.at_level(logging.INFO):
        rows, _ = run_once(shared_mvtec, "run", replace(tiny, calibration_share=0.2, iterations=2))
    assert [(row["category"], row["protocol"]) for row in rows] == [
        *(("bottle", "standard"), ("bottle", "realnet"))
    ]
    folder = shared_mvtec / "run" / "bottle" / "model"
    config = json.loads((folder / "config.json").read_text())
    assert config["threshold"]["images"] == 1
    assert config["step"] == 2
    assert build(Recipe, config["recipe"], "config.json") == replace(
        tiny, calibration_share=0.2, iterations=2
    )
    card = (folder / "README.md").read_text()
    assert "CC BY-NC-SA 4.0" in card
    assert "2403.05897" in card
    assert "rrs parameters" in caplog.text


def test_what_cannot_be_used_is_found_before_training(mvtec, tiny) -> None:
    splits = load_splits("mvtec", mvtec, ("bottle", "cable"))
    with pytest.raises(DatasetNotFound, match="--sdas-dir"):
        check_inputs(replace(tiny, anomaly_source="sdas"), splits, SETTINGS)
    check_inputs(tiny, splits, SETTINGS)
    splits["cable"].test[0].image.write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match="1 of 24 images"):
        check_inputs(tiny, splits, SETTINGS)
