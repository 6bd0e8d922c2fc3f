import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from adcommon.data import load_splits
from adcommon.data.content import data_digest
from adcommon.errors import BadValue
from adcommon.io.model_folder import TENSORS
from adcommon.models.pickles import read_safetensors
from adcommon.testing.commands import read_table
from adcommon.testing.trees import make_mvtec
from adcommon.training.resume import restore, save
from adcommon.training.run import Run, RunGroup
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from adcommon.types.records import Record
from recontrast.losses import criterion_of
from recontrast.model import ReContrast, WithPartialNorm, build
from recontrast.optimiser import make_optimiser, update
from recontrast.recipes import MVTEC, MVTEC_STABLE
from recontrast.train import train

SMALL = replace(
    MVTEC,
    backbone="test_efficientnet",
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
    return rows, read_safetensors(tmp_path / name / "bottle" / "model" / TENSORS)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    make_mvtec(folder / "mvtec", categories=("bottle",))
    return folder


@pytest.fixture(scope="module")
def plain(tree: Path) -> dict[str, torch.Tensor]:
    """What a training of three steps ends with; its folder is `tree`/plain."""
    return run_once(tree, "plain")[1]


def losses(tree: Path, name: str) -> list[float]:
    return [float(row["loss"]) for row in read_table(tree / name / "bottle" / "metrics.csv")]


def test_two_runs_with_one_seed_end_in_the_same_bits_and_another_seed_does_not(tree: Path, plain) -> None:
    _, second = run_once(tree, "second")
    run_once(tree, "other", replace(SMALL, seed=5, iterations=1))
    assert all(torch.equal(plain[name], second[name]) for name in plain)
    assert losses(tree, "other")[0] != losses(tree, "plain")[0]


def test_training_moves_encoder_and_decoder_and_never_the_frozen_encoder(tree: Path, plain) -> None:
    _, short = run_once(tree, "short", replace(SMALL, iterations=1))
    for name in short:
        if name.startswith("encoder_freeze."):
            assert torch.equal(short[name], plain[name]), name
    for name in (
        "encoder.conv_stem.weight",
        "encoder.bn1.running_mean",
        "decoder.out3.1.bias",
        "bottleneck.conv1.weight",
    ):
        assert not torch.equal(short[name], plain[name]), name


def test_the_cache_changes_no_number(tree: Path, plain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AD_CACHE", str(tree / "cache"))
    _, filling = run_once(tree, "filling", settings=replace(SETTINGS, cache=True))
    _, cached = run_once(tree, "cached", settings=replace(SETTINGS, cache=True))
    assert all(torch.equal(plain[name], filling[name]) for name in plain)
    assert all(torch.equal(plain[name], cached[name]) for name in plain)


@pytest.mark.usefixtures("plain")
def test_kept_maps_of_the_frozen_encoder_change_no_number_beyond_rounding(tree: Path, monkeypatch) -> None:
    looked = []
    compute = ReContrast.frozen_features
    monkeypatch.setattr(
        ReContrast, "frozen_features", lambda model, images: looked.append(1) or compute(model, images)
    )
    run_once(tree, "kept", replace(SMALL, cache_features=True, evaluate_every=1000))
    kept, evaluated = losses(tree, "kept"), len(looked)
    looked.clear()
    run_once(tree, "not kept", replace(SMALL, evaluate_every=1000))
    assert len(looked) == evaluated + SMALL.iterations
    assert kept[0] == pytest.approx(losses(tree, "plain")[0], abs=1e-5)
    assert kept == pytest.approx(losses(tree, "plain"), abs=0.02)


@pytest.mark.usefixtures("plain")
def test_channels_last_ends_near_the_plain_numbers(tree: Path) -> None:
    run_once(tree, "channels_last", replace(SMALL, channels_last=not SMALL.channels_last))
    ours, others = losses(tree, "plain"), losses(tree, "channels_last")
    assert others[0] == pytest.approx(ours[0], abs=1e-5)
    assert others == pytest.approx(ours, abs=0.02)  # Adam's first steps magnify rounding


@pytest.mark.usefixtures("plain")
def test_the_model_folder_says_everything_about_itself(tree: Path) -> None:
    folder = tree / "plain" / "bottle" / "model"
    config = json.loads((folder / "config.json").read_text())
    assert config["recipe"]["iterations"] == 3
    assert config["weights"] == "random"
    assert config["metrics"][0]["category"] == "bottle"
    made, training = config["provenance"], sorted(tree.rglob("bottle/train/good/*.png"))
    assert made["images"] == len(training)
    assert made["data"] == data_digest([Record(image, "bottle", 0) for image in training])
    card = (folder / "README.md").read_text()
    assert "CC BY-NC-SA 4.0" in card
    assert "2306.02602" in card
    assert f"- their digest: {made['data']}" in card


def test_holding_out_everything_is_refused(tree: Path) -> None:
    with pytest.raises(BadValue, match="share"):
        run_once(tree, "refused", replace(SMALL, calibration_share=1.0))


STABLE = replace(MVTEC_STABLE, backbone="test_efficientnet", image_size=64, iterations=10)


def fresh():
    model = build(STABLE, weights="random")
    optimiser, schedule = make_optimiser(model, STABLE)
    accelerator = Accelerator(cpu=True)
    optimiser = accelerator.prepare_optimizer(optimiser, device_placement=False)
    state = {"model": WithPartialNorm(model), "optimiser": optimiser, "schedule": schedule}
    return model, state, accelerator


def test_after_a_restore_the_next_step_is_the_same_partial_norm_included(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model, state, accelerator = fresh()
    update(model, images, state["optimiser"], accelerator, criterion_of(MVTEC, 0))
    run.log(1, {"loss": 1.0})
    save(run, 1, STABLE, state, accelerator)
    run.log(2, {"loss": 2.0})
    next_loss = update(model, images, state["optimiser"], accelerator, criterion_of(MVTEC, 0))
    after = {name: value.clone() for name, value in model.state_dict().items()}

    torch.manual_seed(1)
    other, state, accelerator = fresh()
    assert restore(run, STABLE, state, accelerator) == 1
    assert update(other, images, state["optimiser"], accelerator, criterion_of(MVTEC, 0)) == next_loss
    assert all(torch.equal(value, after[name]) for name, value in other.state_dict().items())
    assert run.metrics.read_text().splitlines() == ["step,loss", "1,1.0"]
