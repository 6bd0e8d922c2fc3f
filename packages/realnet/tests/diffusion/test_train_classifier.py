from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from PIL import Image

from adcommon.io.model_folder import read_config
from adcommon.testing.commands import read_table
from adcommon.testing.runs import stopped_and_resumed
from adcommon.training.run import Run, RunGroup
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


def test_it_learns_to_tell_dark_from_bright(tmp_path: Path, images) -> None:
    recipe = replace(RECIPE, epochs=20, batch_size=12, chunk_size=12, lr=1e-3)
    run = RunGroup(tmp_path / "run").run("classifier")
    train(recipe, images, run, Accelerator(cpu=True), SETTINGS, StopSignal())
    config = read_config(run.model)
    assert config["categories"] == ["dark", "bright"]
    assert config["training"]["epoch_accuracy"] > 0.8
    speed = read_table(run.speed)
    assert [int(row["step"]) for row in speed] == list(range(1, 21))
    assert float(speed[-1]["images_per_second"]) * float(speed[-1]["step_seconds"]) == pytest.approx(12)
    rows = read_table(run.metrics)
    assert list(rows[0]) == ["step", "loss", "gradient_norm", "accuracy", "epoch_accuracy"]
    assert [int(row["step"]) for row in rows if row["epoch_accuracy"]] == list(range(1, 21))
    assert [path.name for path in run.epochs.iterdir()] == ["19"]


def test_a_stopped_training_resumes_to_the_same_bits(tmp_path: Path, images) -> None:
    def trains(run: Run, resume: bool, stop: StopSignal) -> None:
        train(RECIPE, images, run, Accelerator(cpu=True), replace(SETTINGS, resume=resume), stop)

    whole, _ = stopped_and_resumed(trains, tmp_path, questions=1, step=1)
    rows = read_table(whole.metrics)
    assert [bool(row["epoch_accuracy"]) for row in rows] == [False, False, True] * 2
    for end in (3, 6):
        mean = sum(float(row["accuracy"]) for row in rows[end - 3 : end]) / 3
        assert float(rows[end - 1]["epoch_accuracy"]) == pytest.approx(mean)


def test_accuracy_is_the_mean_over_the_batches_of_an_epoch() -> None:
    accuracy = Accuracy()
    accuracy.add([1.0, 0.5])
    again = Accuracy()
    again.load_state_dict(accuracy.state_dict())
    again.add([0.0])
    assert again.take() == 0.5
    again.add([1.0])
    assert again.take() == 1.0
