"""Every training loop on a GPU: it begins as on the CPU, can be resumed, and leaves a model that predicts.

uv run pytest tests/test_gpu.py -m gpu
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from trainings import FEW_SHOT, PREDICTS, TRAININGS

import adcommon as ad
from adcommon.testing.commands import read_table, succeed
from adcommon.testing.trees import make_mvtec
from adcommon.testing.waits import waits
from resad.losses import RunningBoundaries
from resad.model import ResAD
from resad.optimiser import Optimisers, update
from resad.recipes import RECIPES

DEVICE = os.environ.get("AD_TEST_DEVICE", "cuda:0")
"""`cpu` tries the tests themselves."""
pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_mvtec(root / "mvtec_anomaly_detection", categories=("bottle", "cable"), train=12)
    make_mvtec(root / "VisA_pytorch" / "1cls", categories=("candle",), train=6, seed=3)
    return root


def losses(out: Path) -> list[float]:
    (table,) = out.rglob("metrics.csv")
    return [float(row["loss"]) for row in read_table(table) if row.get("loss")]


@pytest.mark.parametrize("command", TRAININGS)
def test_a_training_begins_as_on_the_cpu_and_its_model_predicts(
    command: str, data: Path, tmp_path: Path
) -> None:
    words = [*TRAININGS[command].split(), "--data-root", data]
    succeed(command, *words, "--device", DEVICE, "--out", tmp_path / "there")
    succeed(command, *words, "--device", "cpu", "--out", tmp_path / "here")
    there, here = losses(tmp_path / "there"), losses(tmp_path / "here")
    assert len(there) == len(here) > 3
    # UniAD draws its jitter and dropout on the device.
    assert there[0] == pytest.approx(here[0], rel=0.05 if command == "uniad-train" else 1e-3)
    assert there == pytest.approx(here, rel=0.2)  # optimisers magnify the rounding of their first steps
    (model,) = {path.parent for path in (tmp_path / "there").rglob("model/config.json")}
    if command in PREDICTS:
        few_shot = command in FEW_SHOT
        references = data / "VisA_pytorch/1cls/candle/train/good" if few_shot else None
        category = "candle" if few_shot else None
        images = sorted((data / "mvtec_anomaly_detection/bottle/test").rglob("*.png"))
        scores = []
        for device in (DEVICE, "cpu"):
            loaded = ad.load(model, references=references, category=category, device=device)
            scores.append([result.score for result in loaded.predict(images)])
        assert scores[0] == pytest.approx(scores[1], rel=1e-2, abs=1e-3)


@pytest.mark.parametrize(
    ("command", "precision"),
    [
        *(
            (command, "bf16")
            for command in ("recontrast-train", "uniad-train", "realnet-train", "resad-train")
        ),
        *(
            (command, "fp16")
            for command in ("recontrast-train", "uniad-train", "realnet-train", "resad-train")
        ),
    ],
)
def test_half_precision_stays_near_full(command: str, precision: str, data: Path, tmp_path: Path) -> None:
    words = [*TRAININGS[command].split(), "--data-root", data, "--device", DEVICE]
    succeed(command, *words, "--out", tmp_path / "full")
    succeed(command, *words, "--precision", precision, "--out", tmp_path / "half")
    assert losses(tmp_path / "half")[0] == pytest.approx(losses(tmp_path / "full")[0], rel=0.05)


@pytest.mark.parametrize("command", ["recontrast-train", "realnet-train", "resad-train"])
def test_a_deterministic_training_gives_the_same_bits_twice(command: str, data: Path, tmp_path: Path) -> None:
    words = [*TRAININGS[command].split(), "--data-root", data, "--device", DEVICE, "--deterministic"]
    for place in "ab":
        succeed(command, *words, "--out", tmp_path / place)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_a_step_of_resad_never_waits_for_the_device() -> None:
    recipe = replace(RECIPES["quickstart"], flow_batch=256)
    model = ResAD([24, 40], recipe).to(DEVICE).train()
    optimisers, boundaries = Optimisers(model, recipe), RunningBoundaries(2)
    residuals = [torch.rand(4, 24, 16, 16, device=DEVICE), torch.rand(4, 40, 8, 8, device=DEVICE)]
    masks = [torch.rand(4, *maps.shape[2:], device=DEVICE) < 0.1 for maps in residuals]
    accelerator = Accelerator(cpu=DEVICE == "cpu")

    def step() -> None:
        update(model, residuals, masks, optimisers, boundaries, recipe, accelerator, second_stage=True)

    step()  # the first one moves the boundaries to the device
    with waits() as found:
        step()
    assert found == []
