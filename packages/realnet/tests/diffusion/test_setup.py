from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from adcommon.data import load_splits
from adcommon.errors import BadValue, UnreadableImage
from adcommon.testing.trees import make_mvtec
from adcommon.types.records import Record
from realnet.diffusion.recipes import CLASSIFIER_RECIPES, DIFFUSION_RECIPES
from realnet.diffusion.settings import TrainSettings
from realnet.diffusion.setup import Setup, check_inputs, keep_latest, make_optimiser, place

RECIPES = [
    replace(recipes["tiny"], image_size=16, batch_size=4, epochs=3, iterations=None)
    for recipes in (DIFFUSION_RECIPES, CLASSIFIER_RECIPES)
]
SETTINGS = TrainSettings(cache=False)


@pytest.fixture
def images(tmp_path: Path) -> dict[str, list[Record]]:
    make_mvtec(tmp_path / "mvtec", categories=("bottle", "cable"), train=5)
    return {name: split.train for name, split in load_splits("mvtec", tmp_path, ("bottle", "cable")).items()}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.kind)
def test_both_trainings_begin_alike_and_with_their_seed(images, recipe) -> None:
    first, second = (Setup(recipe, images, Accelerator(cpu=True), SETTINGS) for _ in range(2))
    assert (first.per_epoch, first.total) == (3, 9)
    assert first.labels.tolist() == [0] * 5 + [1] * 5
    assert first.process.steps == recipe.timesteps
    mine, other = first.network.state_dict(), second.network.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    count = len(list(first.network.parameters()))
    assert len(first.optimiser.param_groups[0]["params"]) == count


def test_what_cannot_be_used_is_found_before_training(images) -> None:
    check_inputs(RECIPES[0], images, SETTINGS)
    with pytest.raises(BadValue, match="unknown noise schedule"):
        check_inputs(replace(RECIPES[0], noise_schedule="cosin"), images, SETTINGS)
    images["cable"][0].image.write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match="1 of 10 images"):
        check_inputs(RECIPES[0], images, SETTINGS)


def test_a_network_made_ready_keeps_its_weights() -> None:
    network = torch.nn.Conv2d(3, 4, 3)
    weight = network.weight.clone()
    assert torch.equal(place(network, torch.device("cpu"), channels_last=True).weight, weight)


def test_only_the_latest_interim_models_stay(tmp_path: Path) -> None:
    for epoch in (5, 10, 100, 20):
        (tmp_path / str(epoch)).mkdir()
    keep_latest(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["100", "20"]


def test_the_optimiser_is_adam_with_the_recipes_numbers() -> None:
    recipe = replace(RECIPES[0], lr=0.1, adam_beta1=0.5, adam_beta2=0.75, weight_decay=0.25)
    mine, other = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    other.load_state_dict(mine.state_dict())
    plain = torch.optim.Adam(other.parameters(), lr=0.1, betas=(0.5, 0.75), weight_decay=0.25)
    for network, optimiser in ((mine, make_optimiser(mine, recipe)), (other, plain)):
        for scale in (1.0, 3.0):
            optimiser.zero_grad()
            (scale * network(torch.ones(1, 2)).square()).sum().backward()
            optimiser.step()
    torch.testing.assert_close(mine.state_dict(), other.state_dict())
