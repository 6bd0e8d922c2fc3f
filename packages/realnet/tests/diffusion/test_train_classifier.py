from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from adcommon.errors import Stopped
from adcommon.models.checkpoint import load_model
from adcommon.training.run import RunGroup
from adcommon.training.stop import StopSignal
from adcommon.types.records import Record
from realnet.diffusion.recipes import CLASSIFIER_RECIPES
from realnet.diffusion.settings import TrainSettings
from realnet.diffusion.train_classifier import Accuracy, train

RECIPE = replace(
    CLASSIFIER_RECIPES["tiny"],
    image_size=16,
    batch_size=4,
    chunk_size=2,
    epochs=2,
    iterations=None,
    evaluate_every=1,
    keep_epochs=1,
)
SETTINGS = TrainSettings(cache=False, save_every=1)


@pytest.fixture
def images(tmp_path: Path) -> dict[str, list[Record]]:
    """Dark and bright images."""
    found: dict[str, list[Record]] = {"dark": [], "bright": []}
    for number in range(12):
        category = ("dark", "bright")[number % 2]
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((32, 32, 3), 200 * (number % 2) + number, dtype=np.uint8)).save(path)
        found[category].append(Record(path, category, 0))
    return found


def run_once(root: Path, name: str, images, recipe=RECIPE, settings=SETTINGS, stop=None):
    run = RunGroup(root / name, resume=True).run("classifier")
    train(recipe, images, run, Accelerator(cpu=True), settings, stop or StopSignal())
    return load_model(run.model, "realnet-classifier")


def test_it_learns_to_tell_dark_from_bright(tmp_path: Path, images) -> None:
    recipe = replace(RECIPE, epochs=20, batch_size=12, chunk_size=12, lr=1e-3)
    config, _ = run_once(tmp_path, "run", images, recipe)
    assert config["categories"] == ["dark", "bright"]
    assert config["training"]["epoch_accuracy"] > 0.8
    folder = tmp_path / "run" / "classifier"
    header, *rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    assert header == ["step", "loss", "gradient_norm", "accuracy", "epoch_accuracy"]
    assert [int(row[0]) for row in rows if row[4]] == list(range(1, 21))
    assert [path.name for path in (folder / "epochs").iterdir()] == ["19"]


def test_a_stopped_training_resumes_to_the_same_bits(tmp_path: Path, images) -> None:
    _, whole = run_once(tmp_path, "whole", images)
    stop = StopSignal()
    stop.requested = True
    with pytest.raises(Stopped, match="after step 1"):
        run_once(tmp_path, "parts", images, stop=stop)
    _, resumed = run_once(tmp_path, "parts", images, settings=replace(SETTINGS, resume=True))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    tables = [(tmp_path / name / "classifier" / "metrics.csv").read_text() for name in ("whole", "parts")]
    assert tables[0] == tables[1]
    rows = [line.split(",") for line in tables[0].splitlines()[1:]]
    assert [bool(row[4]) for row in rows] == [False, False, True] * 2
    for end in (3, 6):
        mean = sum(float(row[3]) for row in rows[end - 3 : end]) / 3
        assert float(rows[end - 1][4]) == pytest.approx(mean)


def test_accuracy_is_the_mean_over_the_batches_of_an_epoch() -> None:
    accuracy = Accuracy()
    accuracy.add([1.0, 0.5])
    again = Accuracy()
    again.load_state_dict(accuracy.state_dict())
    again.add([0.0])
    assert again.take() == 0.5
    again.add([1.0])
    assert again.take() == 1.0
