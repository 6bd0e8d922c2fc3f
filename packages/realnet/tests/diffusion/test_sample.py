import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from adcommon.errors import BadValue, Stopped, UnknownName
from adcommon.training.stop import StopSignal
from realnet.diffusion import store
from realnet.diffusion.recipes import CLASSIFIER_RECIPES, DIFFUSION_RECIPES, SampleRecipe
from realnet.diffusion.sample import Batch, Sampler, check_pair, draw_samples, draw_strengths
from realnet.diffusion.settings import SampleSettings
from realnet.diffusion.store import Learnt

RECIPE = SampleRecipe(batch_size=2, sample_number=3, respacing="ddim2", quality=95)
NAMES = ("bolt", "nut")


def trained(kind=DIFFUSION_RECIPES, names=NAMES, **changes) -> Learnt:
    torch.manual_seed(0)
    recipe = replace(kind["tiny"], **{"image_size": 16, **changes})
    network = store.build(recipe, len(names)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return Learnt(network, recipe, tuple(names))


def sampler(recipe=RECIPE, classifier=None, settings=None) -> Sampler:
    return Sampler(recipe, trained(), classifier, Accelerator(cpu=True), settings or SampleSettings())


def draw(out: Path, recipe=RECIPE, stop=None) -> dict[str, np.ndarray]:
    draw_samples(sampler(recipe), NAMES, out, Accelerator(cpu=True), stop or StopSignal())
    return {str(path.relative_to(out)): np.asarray(Image.open(path)) for path in out.glob("*/*.jpg")}


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "samples.csv").open() as file:
        return list(csv.DictReader(file))


def test_whole_batches_are_written_with_a_table_of_how_they_came_to_be(tmp_path: Path) -> None:
    images = draw(tmp_path)
    assert sorted(images) == [f"{name}/rank0_{number}.jpg" for name in NAMES for number in range(4)]
    table = rows(tmp_path)
    assert [row["file"] for row in table] == sorted(images)
    assert {(row["seed"], row["sampler"], row["guided"]) for row in table} == {("100", "ddpm", "0")}
    strengths = [float(row["strength"]) for row in table]
    assert strengths[0] == strengths[1] != strengths[2]
    assert all(0.1 <= strength <= 0.2 for strength in strengths)


def test_what_was_stopped_or_lost_is_drawn_again_as_it_would_have_been(tmp_path: Path) -> None:
    whole = draw(tmp_path / "whole")
    stop = StopSignal()
    stop.requested = True
    with pytest.raises(Stopped, match="--resume"):
        draw(tmp_path / "parts", stop=stop)
    assert len(list((tmp_path / "parts").glob("*/*.jpg"))) == 2
    assert not (tmp_path / "parts" / "samples.csv").exists()
    (tmp_path / "parts" / "bolt" / "rank0_1.jpg").unlink()
    parts = draw(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("*/*.jpg")}
    draw(tmp_path / "parts", replace(RECIPE, sample_number=5))
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())
    assert len(rows(tmp_path / "parts")) == 12
    draw_samples(sampler(), NAMES[:1], tmp_path / "parts", Accelerator(cpu=True), StopSignal())
    assert len(rows(tmp_path / "parts")) == 12  # those of the other category stay in the table


def test_seed_category_and_batch_each_change_an_image() -> None:
    drawn = sampler().draw(Batch("bolt", 0, 2))
    assert not np.array_equal(drawn[0], drawn[1])
    for other in (
        sampler(replace(RECIPE, seed=1)).draw(Batch("bolt", 0, 2)),
        sampler().draw(Batch("nut", 0, 2)),
        sampler().draw(Batch("bolt", 1, 2)),
    ):
        assert not np.array_equal(drawn, other)


def test_strength_zero_and_more_differ_by_noise_alone() -> None:
    calm, wild = (
        sampler(replace(RECIPE, strength=strength)).draw(Batch("bolt", 0, 2)).astype(int)
        for strength in ((0.0,), (0.5,))
    )
    again = sampler(replace(RECIPE, strength=(0.0, 0.0))).draw(Batch("bolt", 0, 2))
    assert np.array_equal(calm, again)
    assert 0 < abs(calm - wild).mean() < 60


def test_a_strength_is_of_a_batch_or_of_each_image() -> None:
    def strengths(**changes) -> torch.Tensor:
        return draw_strengths(replace(RECIPE, **changes), 100, torch.Generator().manual_seed(0))

    assert strengths().unique().numel() == 1
    each = strengths(strength_per_image=True, strength=(1.0, 2.0))
    assert each.unique().numel() == 100
    assert 1.0 < each.min() < 1.1 < 1.9 < each.max() < 2.0
    assert strengths(strength=(0.3,)).tolist() == pytest.approx([0.3] * 100)


def test_grey_images_are_the_mean_of_the_channels() -> None:
    colour = sampler().draw(Batch("bolt", 0, 2)).astype(float)
    grey = sampler(replace(RECIPE, grey=True)).draw(Batch("bolt", 0, 2))
    assert (grey == grey[..., :1]).all()
    unclipped = ((colour > 0) & (colour < 255)).all(axis=-1)
    assert abs(grey[..., 0] - colour.mean(axis=-1))[unclipped].max() < 2


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_a_guiding_classifier_changes_what_is_drawn(kind) -> None:
    recipe = replace(RECIPE, sampler=kind, classifier_scale=1e6)
    classifier = trained(CLASSIFIER_RECIPES, ("nut", "bolt"))
    plain, guided = (sampler(recipe, guide).draw(Batch("bolt", 0, 2)) for guide in (None, classifier))
    assert not np.array_equal(plain, guided)


def test_channels_last_and_bf16_draw_nearly_the_same() -> None:
    plain = sampler().draw(Batch("bolt", 0, 2)).astype(int)
    laid_out = sampler(replace(RECIPE, channels_last=True)).draw(Batch("bolt", 0, 2))
    assert abs(plain - laid_out).max() <= 1
    with torch.autocast("cpu", torch.bfloat16):
        rounded = sampler().draw(Batch("bolt", 0, 2))
    assert abs(plain - rounded).mean() < 3


def test_a_pair_of_networks_has_to_fit() -> None:
    diffusion = trained()
    assert check_pair(diffusion, trained(CLASSIFIER_RECIPES, ("bolt",)), ("bolt",)) is None
    with pytest.raises(UnknownName, match=r"category of the diffusion model.*did you mean 'bolt'"):
        check_pair(diffusion, None, ("bold",))
    with pytest.raises(UnknownName, match="category of the classifier"):
        check_pair(diffusion, trained(CLASSIFIER_RECIPES, ("bolt", "screw")), ("nut",))
    for changes in ({"noise_schedule": "linear"}, {"image_size": 32}):
        with pytest.raises(BadValue, match="--no-classifier"):
            check_pair(diffusion, trained(CLASSIFIER_RECIPES, **changes), ("nut",))
