from dataclasses import replace
from pathlib import Path

import pytest
from accelerate import Accelerator
from PIL import Image

from adcommon.data import load_splits
from adcommon.testing.commands import read_table
from adcommon.testing.runs import one_of_two_stopped, stopped_and_resumed
from adcommon.training.run import Run, RunGroup
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from uniad.pictures.checkpoint import load_decoder
from uniad.pictures.train_decoder import train_decoder

SETTINGS = Settings(weights="random", cache=False)


def test_a_decoder_leaves_a_model_and_a_picture_of_every_image(mvtec: Path, tiny, caplog) -> None:
    records = load_splits("mvtec", mvtec, ("bottle",))["bottle"].test
    recipe, run = replace(tiny, iterations=1, batch_size=6), RunGroup(mvtec / "run").run("bottle")
    settings = replace(SETTINGS, profile=True)
    train_decoder(recipe, "bottle", records, run, Accelerator(cpu=True), settings, StopSignal())
    assert "wrote no trace" in caplog.text  # of one step
    (speed,) = read_table(run.speed)
    assert float(speed["images_per_second"]) * float(speed["step_seconds"]) == pytest.approx(6)
    pictures = sorted(run.maps.glob("*/*.jpg"))
    assert len(pictures) == 6
    with Image.open(pictures[0]) as picture:
        assert picture.size == (64, 128)  # the image above its reconstruction
    for place in (mvtec / "run", run.folder, run.model):
        decoder, preprocess = load_decoder(place, "bottle")
        assert preprocess.image_size == 64
        assert not decoder.training


@pytest.mark.slow
def test_a_resumed_decoder_equals_an_unbroken_one(mvtec: Path, tiny, tmp_path: Path) -> None:
    records = load_splits("mvtec", mvtec, ("bottle",))["bottle"].test[:2]
    recipe = replace(tiny, iterations=2, batch_size=2)

    def trains(run: Run, resume: bool, stop: StopSignal) -> None:
        settings = replace(SETTINGS, resume=resume)
        train_decoder(recipe, "bottle", records, run, Accelerator(cpu=True), settings, stop)

    stopped_and_resumed(trains, tmp_path, questions=1, step=1)


@pytest.mark.slow  # the loops of the five methods are tried in every run
def test_a_signal_to_one_of_two_processes_stops_both(mvtec: Path, tmp_path: Path) -> None:
    words = [
        *("--data-root", mvtec, "--category", "bottle", "--device", "cpu", "--image-size", "32"),
        *("--backbone", "resnet18", "--strides", "4", "8", "16", "--weights", "random"),
        *("--batch-size", "2", "--iterations", "6"),
    ]
    one_of_two_stopped("uniad-train-decoder", words, tmp_path, "bottle")
