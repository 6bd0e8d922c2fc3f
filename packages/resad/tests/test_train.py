from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from adcommon.data import load_splits
from adcommon.errors import Leak, MaskMissing
from adcommon.io.model_folder import TENSORS, read_config
from adcommon.models.pickles import read_safetensors
from adcommon.testing.commands import read_table
from adcommon.testing.trees import make_mvtec
from adcommon.training.run import RunGroup
from adcommon.training.stop import StopSignal
from adcommon.types.records import Split
from resad.recipes import Recipe
from resad.settings import TrainSettings
from resad.train import check_inputs, train


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe):
    """Trains on shared trees, in a folder of its own, and gives rows, config and tensors."""
    root = tmp_path_factory.mktemp("trees")
    make_mvtec(root / "mvtec", categories=("bottle", "cable"), size=40)
    make_mvtec(root / "visa", categories=("candle", "pcb1"), size=40, seed=1)
    seen = load_splits("mvtec", root, ("bottle", "cable"))
    unseen = load_splits("visa", root, ("candle", "pcb1"))

    def run(out: Path, **changed: object):
        new, settings = replace(recipe, **changed), TrainSettings(weights="random", cache=False, out=out)
        group = RunGroup(out)
        with StopSignal() as stop:
            rows = train(new, seen, unseen, group.run("all"), Accelerator(cpu=True), settings, stop)
        return rows, read_config(out / "all" / "model"), read_safetensors(out / "all" / "model" / TENSORS)

    return run


@pytest.fixture(scope="module")
def plain(run_once, tmp_path_factory: pytest.TempPathFactory):
    """Folder, rows, config and tensors of the small training."""
    out = tmp_path_factory.mktemp("plain")
    return out, *run_once(out)


def test_two_runs_with_one_seed_end_in_the_same_bits_and_another_seed_does_not(
    run_once, plain, tmp_path: Path
) -> None:
    out, rows, _, first = plain
    _, _, second = run_once(tmp_path / "second")
    run_once(tmp_path / "other", seed=5, epochs=1)
    assert all(torch.equal(first[name], second[name]) for name in first)
    losses = [read_table(folder / "all/metrics.csv")[0]["loss"] for folder in (out, tmp_path / "other")]
    assert losses[0] != losses[1]
    assert {(row["category"], row["shots"], row["protocol"]) for row in rows} == {
        (category, shots, protocol)
        for category in ("candle", "pcb1")
        for shots in (2, 3)
        for protocol in ("standard", "resad")
    }


def test_the_model_folder_says_everything_about_itself(run_once, tmp_path: Path) -> None:
    _, config, _ = run_once(tmp_path / "run", eval_freq=1)
    assert config["categories"] == ["candle", "pcb1"]
    assert config["dataset"] == "visa"
    assert len(config["references"]["candle"]) == 3
    assert all(Path(name).is_file() for names in config["references"].values() for name in names)
    assert len(config["scale"]["levels"]) == 2
    card = (tmp_path / "run/all/model/README.md").read_text()
    assert "2410.20047" in card
    assert "CC BY-NC-SA 4.0" in card
    official = torch.load(tmp_path / "run/checkpoints/mvtec_to_visa_latest.pth", weights_only=True)
    assert set(official) == {"vq_ops", "constraintor", "estimators"}


def test_levels_that_never_train_are_named_with_what_would_train_them(
    run_once, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, config, _ = run_once(tmp_path / "run", flow_batch=128)
    assert "level 2 never train" in caplog.text
    assert "64 or less trains all" in caplog.text
    assert config["untrained_levels"] == [2]


def test_scaled_residuals_are_stored_with_the_model(run_once, plain, tmp_path: Path) -> None:
    _, scaled, _ = run_once(tmp_path / "scaled", scale_residuals=True)
    assert plain[2]["residual_scale"] == [1.0, 1.0]
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


def test_own_images_that_are_trained_on_are_not_tested(trees: Path, recipe: Recipe) -> None:
    seen = load_splits("mvtec", trees, ("bottle",))
    settings = TrainSettings(weights="random", cache=False)
    own = {"bottle": replace(seen["bottle"], dataset="folder")}
    with pytest.raises(Leak, match="test images are training images too"):
        check_inputs(recipe, seen, own, settings)


def test_metrics_have_a_row_per_step(plain) -> None:
    out, _, config, _ = plain
    table = read_table(out / "all/metrics.csv")
    assert list(table[0]) == ["step", "loss", "vq", "normal", "anomalous", "orthogonal", "flow", "codes"]
    assert len(table) == 3 + 6
    assert config["method"] == "resad"
