from dataclasses import replace

import pytest
import torch

from adcommon.errors import BadValue, Stopped
from adcommon.models.devices import choose_device
from adcommon.training.devices import start
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from baselines.one_pass import Normal, check_inputs, facts_of, normal_images


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(out=tmp_path / "out", weights="random", cache=False)


@pytest.fixture
def accelerator():
    return start(choose_device(None, "cpu"))


def test_every_image_is_seen_once_in_order(padim_recipe, splits, settings, accelerator) -> None:
    normal = Normal.of(replace(padim_recipe, calibration_share=0.0), splits["bottle"], 0.05)
    with StopSignal() as stop:
        batches = list(normal_images(normal.images, padim_recipe, settings, accelerator, stop))
    assert [(first, len(images)) for first, images in batches] == [(0, 4), (4, 2)]
    everything = torch.cat([images for _, images in batches])
    assert len({tuple(image.flatten()[:50].tolist()) for image in everything}) == 6


def test_a_signal_ends_the_pass(padim_recipe, splits, settings, accelerator) -> None:
    normal = Normal.of(padim_recipe, splits["bottle"], 0.05)
    with StopSignal() as stop:
        images = normal_images(normal.images, padim_recipe, settings, accelerator, stop)
        next(images)
        stop.requested = True
        with pytest.raises(Stopped, match="bottle"):
            next(images)


def test_images_are_kept_out_and_shots_are_drawn_by_the_seed(padim_recipe, splits, monkeypatch) -> None:
    monkeypatch.setattr("baselines.one_pass.STEADY", 1)
    split = splits["bottle"]
    share = Normal.of(replace(padim_recipe, calibration_share=0.34), split, 0.4)
    assert (len(share.images), len(share.held_out), share.in_turn) == (4, 2, False)
    draws = [Normal.of(replace(padim_recipe, shots=3, seed=seed), split, 0.4).images for seed in range(5)]
    assert {len(images) for images in draws} == {3}
    assert len({tuple(record.image.name for record in images) for images in draws}) > 1
    with pytest.raises(BadValue, match=r"7 shots are asked for; bottle has 6 normal images"):
        Normal.of(replace(padim_recipe, shots=7), split, 0.4)


def test_where_a_share_would_be_too_few_all_are_used_and_left_out_in_turn(padim_recipe, splits) -> None:
    split = splits["bottle"]
    normal = Normal.of(replace(padim_recipe, calibration_share=0.34), split, 0.2)
    assert (len(normal.images), normal.held_out, normal.in_turn) == (6, [], True)
    assert Normal.of(
        replace(padim_recipe, calibration_share=0.34), split, 0.4
    ).in_turn  # enough, but not many
    assert not Normal.of(replace(padim_recipe, calibration_share=0.0), split, 0.2).in_turn
    assert not Normal.of(replace(padim_recipe, shots=3, calibration_share=0.34), split, 0.2).in_turn


def test_what_is_said_of_the_origin(padim_recipe) -> None:
    facts = facts_of("padim", replace(padim_recipe, shots=2), "random")
    assert (facts.method, facts.backbone, facts.shots, facts.setting) == (
        "padim",
        "test_efficientnet",
        2,
        "one-class",
    )
    assert facts_of("padim", padim_recipe, "random").shots is None


def test_inputs_are_looked_at_before_the_first_pass(padim_recipe, splits, settings) -> None:
    check_inputs(padim_recipe, splits, settings)
    with pytest.raises(BadValue, match="shots"):
        check_inputs(replace(padim_recipe, shots=99), splits, settings)
    with pytest.raises(BadValue, match="--profile has no effect"):
        check_inputs(padim_recipe, splits, replace(settings, profile=True))
    splits["cable"].test[0].image.write_bytes(b"no picture")
    with pytest.raises(Exception, match=splits["cable"].test[0].image.name):
        check_inputs(padim_recipe, splits, settings)


def test_with_tiles_as_many_images_are_kept_out_as_the_rate_needs_at_most_half(padim_recipe, splits) -> None:
    recipe = replace(padim_recipe, tile=32, calibration_share=0.1)
    for rate, kept_out in ((0.4, 2), (0.05, 3)):
        normal = Normal.of(recipe, splits["bottle"], rate)
        assert (len(normal.images), len(normal.held_out), normal.in_turn) == (6 - kept_out, kept_out, False)
    assert Normal.of(replace(recipe, calibration_share=0.0), splits["bottle"], 0.05).held_out == []
