from dataclasses import replace

import pytest
import torch

from adcommon.data.preprocess import Preprocess
from adcommon.errors import WrongCheckpoint
from adcommon.models.checkpoint import save_trained
from adcommon.testing.alterations import loads_or_is_refused
from adcommon.types.threshold import Threshold
from uniad.checkpoint import load_trained, save_official, start_from
from uniad.compat.official import load_checkpoint, save_checkpoint, to_official
from uniad.detector import UniADDetector
from uniad.evaluate import facts
from uniad.published import PAPER
from uniad.recipes import MVTEC


@pytest.fixture
def folder(make_model, tiny, tmp_path):
    """A model folder with a threshold, and the model in it."""
    model = make_model()
    save_trained(
        tmp_path / "model",
        model.state_dict(),
        PAPER,
        facts(tiny, "random"),
        recipe=tiny,
        preprocess=Preprocess(image_size=64),
        categories=["bottle", "cable"],
        threshold=Threshold(value=0.5, false_alarm_rate=0.05, images=30, supported=True),
    )
    return tmp_path / "model", model


def test_a_model_folder_gives_the_detector_and_what_is_known_of_it(folder, images, tiny) -> None:
    place, model = folder
    trained = load_trained(place)
    assert (trained.recipe, trained.facts) == (tiny, facts(tiny, "random"))
    assert (trained.categories, trained.threshold.value) == (("bottle", "cable"), 0.5)
    expected = UniADDetector(model, Preprocess(image_size=64)).score(images)
    assert torch.equal(trained.scorer.score(images).anomaly_maps, expected.anomaly_maps)


def test_a_training_may_start_from_another_model(folder, make_model) -> None:
    place, trained = folder
    model = make_model()
    torch.nn.init.zeros_(model.reconstruction.input_proj.weight)
    start_from(model, place)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in trained.state_dict().items())
    with pytest.raises(WrongCheckpoint, match="entries differ"):
        start_from(make_model(hidden_dim=64), place)


def test_the_authors_file_goes_in_and_out_with_every_entry(make_model, tmp_path) -> None:
    recipe = replace(
        MVTEC,
        backbone="resnet18.tv_in1k",
        strides=(4, 8, 16),
        image_size=64,
        neighbourhood=(3, 3),
        hidden_dim=32,
        heads=4,
        encoder_layers=1,
        decoder_layers=2,
        feedforward=32,
    )
    model = make_model(backbone=recipe.backbone)
    rest = {"backbone.layer4.0.conv1.weight": torch.ones(512, 256, 3, 3)}
    save_checkpoint(tmp_path / "in.pth.tar", model, recipe, epoch=9, rest=rest)
    trained = load_trained(tmp_path / "in.pth.tar")
    assert (trained.recipe, trained.threshold, trained.categories) == (recipe, None, ())
    assert trained.facts == facts(recipe, str(tmp_path / "in.pth.tar"))
    save_official(tmp_path / "out.pth.tar", trained, tmp_path / "in.pth.tar")
    assert load_checkpoint(tmp_path / "out.pth.tar").epoch == 9
    before, after = (load_checkpoint(tmp_path / f"{name}.pth.tar").state for name in ("in", "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len(after) == len(to_official(model)) + 1


def test_another_folder_is_no_model(tmp_path) -> None:
    with pytest.raises(WrongCheckpoint, match=r"config\.json"):
        load_trained(tmp_path)


@pytest.mark.parametrize(
    "count", [8, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_no_value_of_a_config_is_believed(folder, count: int) -> None:
    loads_or_is_refused(folder[0], load_trained, count)
