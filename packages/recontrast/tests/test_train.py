import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from adcommon.data import load_splits
from adcommon.errors import BadValue
from adcommon.models.checkpoint import load_model
from adcommon.testing.trees import make_mvtec
from adcommon.training.run import RunGroup
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from recontrast.recipes import MVTEC, OWN
from recontrast.train import make_preprocess, train

SMALL = replace(
    MVTEC,
    backbone="resnet18",
    image_size=64,
    batch_size=4,
    iterations=3,
    evaluate_every=2,
    protocol="standard",
)
SETTINGS = Settings(weights="random", cache=False)


def run_once(
    tmp_path: Path, name: str, recipe=SMALL, settings=SETTINGS
) -> tuple[list[dict], dict[str, torch.Tensor]]:
    splits = load_splits("mvtec", tmp_path, ("bottle",))
    group = RunGroup(tmp_path / name, resume=True)
    with StopSignal() as stop:
        rows = train(recipe, splits, group.run("bottle"), Accelerator(cpu=True), settings, stop)
    return rows, load_model(tmp_path / name / "bottle" / "model")[1]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    return tmp_path


def test_two_runs_with_one_seed_end_in_the_same_bits_and_another_seed_does_not(tree: Path) -> None:
    (_, first), (_, second) = run_once(tree, "first"), run_once(tree, "second")
    _, other = run_once(tree, "other", replace(SMALL, seed=5))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["decoder.out1.0.weight"], other["decoder.out1.0.weight"])


def test_training_moves_encoder_and_decoder_and_never_the_frozen_encoder(tree: Path) -> None:
    _, short = run_once(tree, "short", replace(SMALL, iterations=1))
    _, long = run_once(tree, "long")
    for name in short:
        if name.startswith("encoder_freeze."):
            assert torch.equal(short[name], long[name]), name
    for name in (
        "encoder.conv1.weight",
        "encoder.bn1.running_mean",
        "decoder.out3.1.bias",
        "bottleneck.conv1.weight",
    ):
        assert not torch.equal(short[name], long[name]), name


def test_the_cache_changes_no_number(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AD_CACHE", str(tree / "cache"))
    _, plain = run_once(tree, "plain")
    _, filling = run_once(tree, "filling", settings=replace(SETTINGS, cache=True))
    _, cached = run_once(tree, "cached", settings=replace(SETTINGS, cache=True))
    assert all(torch.equal(plain[name], filling[name]) for name in plain)
    assert all(torch.equal(plain[name], cached[name]) for name in plain)


def test_channels_last_ends_near_the_plain_numbers(tree: Path) -> None:
    losses = {}
    for channels_last in (False, True):
        name = f"channels_last_{channels_last}"
        run_once(tree, name, replace(SMALL, channels_last=channels_last))
        table = (tree / name / "bottle" / "metrics.csv").read_text().splitlines()
        losses[channels_last] = [float(line.split(",")[1]) for line in table[1:]]
    assert losses[True][0] == pytest.approx(losses[False][0], abs=1e-5)
    assert losses[True] == pytest.approx(losses[False], abs=0.02)  # Adam's first steps magnify rounding


def test_the_model_folder_says_everything_about_itself(tree: Path) -> None:
    run_once(tree, "run")
    config = json.loads((tree / "run" / "bottle" / "model" / "config.json").read_text())
    assert config["recipe"]["iterations"] == 3
    assert config["weights"] == "random"
    assert config["metrics"][0]["category"] == "bottle"
    card = (tree / "run" / "bottle" / "model" / "README.md").read_text()
    assert "CC BY-NC-SA 4.0" in card
    assert "2306.02602" in card


def test_preprocessing_follows_the_backbones_weights_and_the_recipe() -> None:
    assert make_preprocess(MVTEC).mean == pytest.approx((0.485, 0.456, 0.406))
    lite = make_preprocess(replace(OWN, backbone="tf_efficientnet_lite0.in1k"))
    assert lite.mean == (0.5, 0.5, 0.5)
    assert lite.upright
    assert make_preprocess(MVTEC).mask_rule == "any"


def test_holding_out_everything_is_refused(tree: Path) -> None:
    with pytest.raises(BadValue, match="share"):
        run_once(tree, "run", replace(SMALL, calibration_share=1.0))
