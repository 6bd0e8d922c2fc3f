from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from adcommon.data import load_splits
from adcommon.errors import Stopped
from adcommon.models.checkpoint import load_model
from adcommon.training.run import RunGroup
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from uniad.pictures.checkpoint import load_decoder
from uniad.pictures.train_decoder import train_decoder

SETTINGS = Settings(weights="random", cache=False, save_every=1)


def run_once(root: Path, name: str, recipe, settings=SETTINGS, stop=None) -> dict[str, torch.Tensor]:
    records = load_splits("mvtec", root, ("bottle",))["bottle"].test
    run = RunGroup(root / name, resume=True).run("bottle")
    train_decoder(recipe, "bottle", records, run, Accelerator(cpu=True), settings, stop or StopSignal())
    return load_model(run.model, "uniad-decoder")[1]


@pytest.fixture
def short(tiny):
    return replace(tiny, iterations=2, batch_size=6)


def test_a_decoder_leaves_a_model_and_a_picture_of_every_image(mvtec, short) -> None:
    run_once(mvtec, "run", short)
    pictures = sorted((mvtec / "run" / "bottle" / "maps").glob("*/*.jpg"))
    assert len(pictures) == 6
    with Image.open(pictures[0]) as picture:
        assert picture.size == (64, 128)  # the image above its reconstruction
    for place in (mvtec / "run", mvtec / "run" / "bottle", mvtec / "run" / "bottle" / "model"):
        decoder, preprocess = load_decoder(place, "bottle")
        assert preprocess.image_size == 64
        assert not decoder.training


def test_a_resumed_decoder_equals_an_unbroken_one(mvtec, short) -> None:
    whole = run_once(mvtec, "whole", short)
    stop = StopSignal()
    stop.requested = True
    with pytest.raises(Stopped, match="after step 1"):
        run_once(mvtec, "parts", short, stop=stop)
    resumed = run_once(mvtec, "parts", short, replace(SETTINGS, resume=True))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
