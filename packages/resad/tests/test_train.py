import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from adcommon.data import load_splits
from adcommon.errors import MaskMissing
from adcommon.models.checkpoint import load_model
from adcommon.training.run import RunGroup
from adcommon.training.stop import StopSignal
from adcommon.types.records import Split
from resad.recipes import Recipe
from resad.settings import TrainSettings
from resad.train import check_inputs, train


@pytest.fixture
def run_once(trees: Path, recipe: Recipe):
    seen = load_splits("mvtec", trees, ("bottle", "cable"))
    unseen = load_splits("visa", trees, ("candle", "pcb1"))

    def run(name: str, **changed: object):
        new = replace(recipe, **changed)
        settings = TrainSettings(weights="random", cache=False, out=trees / name)
        group = RunGroup(trees / name, resume=True)
        with StopSignal() as stop:
            rows = train(new, seen, unseen, group.run("all"), Accelerator(cpu=True), settings, stop)
        return rows, load_model(trees / name / "all" / "model")

    return run


def test_two_runs_with_one_seed_end_in_the_same_bits_and_another_seed_does_not(run_once) -> None:
    (rows, (_, first)), (_, (_, second)) = run_once("first"), run_once("second")
    _, (_, other) = run_once("other", seed=5)
    assert all(torch.equal(first[name], second[name]) for name in first)
    name = "constraintor.l1_proj.conv.weight"
    assert not torch.equal(first[name], other[name])
    assert {(row["category"], row["shots"], row["protocol"]) for row in rows} == {
        (category, shots, protocol)
        for category in ("candle", "pcb1")
        for shots in (2, 3)
        for protocol in ("standard", "resad")
    }


def test_the_model_folder_says_everything_about_itself(run_once, trees: Path) -> None:
    _, (config, _) = run_once("run", eval_freq=1)
    assert config["categories"] == ["candle", "pcb1"]
    assert config["dataset"] == "visa"
    assert len(config["references"]["candle"]) == 3
    assert all(Path(name).is_file() for names in config["references"].values() for name in names)
    assert len(config["scale"]["levels"]) == 2
    card = (trees / "run/all/model/README.md").read_text()
    assert "2410.20047" in card
    assert "CC BY-NC-SA 4.0" in card
    official = torch.load(trees / "run/checkpoints/mvtec_to_visa_latest.pth", weights_only=True)
    assert set(official) == {"vq_ops", "constraintor", "estimators"}


def test_levels_that_never_train_are_named_with_what_would_train_them(
    run_once, caplog: pytest.LogCaptureFixture
) -> None:
    _, (config, _) = run_once("run", flow_batch=128)
    assert "level 2 never train" in caplog.text
    assert "64 or less trains all" in caplog.text
    assert config["untrained_levels"] == [2]


def test_scaled_residuals_are_stored_with_the_model(run_once) -> None:
    _, (plain, _) = run_once("plain")
    _, (scaled, _) = run_once("scaled", scale_residuals=True)
    assert plain["residual_scale"] == [1.0, 1.0]
    assert scaled["residual_scale"] != [1.0, 1.0]


def test_unusable_input_is_found_before_training(trees: Path, recipe: Recipe) -> None:
    seen = load_splits("mvtec", trees, ("bottle",))
    unseen = load_splits("visa", trees, ("candle",))
    settings = TrainSettings(weights="random", cache=False)
    check_inputs(recipe, seen, unseen, settings)
    blind = {
        name: Split(split.train, [replace(record, mask=None) for record in split.test])
        for name, split in seen.items()
    }
    with pytest.raises(MaskMissing):
        check_inputs(recipe, blind, unseen, settings)
    image = unseen["candle"].test[0].image
    image.write_bytes(b"not an image")
    with pytest.raises(Exception, match="cannot be used"):
        check_inputs(recipe, seen, unseen, settings)


def test_metrics_have_a_row_per_step(run_once, trees: Path) -> None:
    run_once("run")
    table = (trees / "run/all/metrics.csv").read_text().splitlines()
    assert table[0] == "step,loss,vq,normal,anomalous,orthogonal,flow,codes"
    assert len(table) == 1 + 3 + 6
    assert json.loads((trees / "run/all/model/config.json").read_text())["method"] == "resad"
