from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from recontrast.ablations import ABLATIONS
from recontrast.losses import criterion_of, recontrast_loss
from recontrast.model import build
from recontrast.optimiser import make_optimiser, update
from recontrast.recipes import MVTEC, Recipe

ITERATION = 150  # in the middle of the ramp: some positions are easy, some are not


def two_steps(recipe: Recipe) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses of two steps on one batch, and the weights after them."""
    recipe = replace(recipe, backbone="test_efficientnet", image_size=64, encoder_lr=1e-2)
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = build(recipe, weights="random")
    optimiser, _ = make_optimiser(model, recipe)
    criterion = criterion_of(recipe, ITERATION)
    losses = [float(update(model, images, optimiser, Accelerator(cpu=True), criterion)) for _ in range(2)]
    return losses, model.state_dict()


@pytest.fixture(scope="module")
def full() -> tuple[list[float], dict[str, torch.Tensor]]:
    return two_steps(MVTEC)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_takes_another_step_and_has_another_loss_where_its_forward_differs(
    name: str, full
) -> None:
    losses, weights = two_steps(ABLATIONS[name])
    only_gradients = name in ("no_mining", "no_stop_gradient")
    assert (losses[0] == pytest.approx(full[0][0], rel=1e-6)) == only_gradients
    assert losses[1] != pytest.approx(full[0][1], rel=1e-6)
    moved = not torch.equal(weights["encoder.conv_stem.weight"], weights["encoder_freeze.conv_stem.weight"])
    assert moved == (name != "frozen_encoder")


def test_of_one_encoder_both_pairs_are_the_same(make_model, images) -> None:
    for encoders in ("frozen", "trained"):
        model = make_model(encoders=encoders, encoder_norm_train=True)
        outputs = model(images)
        for first, second in zip(outputs.pairs()[:3], outputs.pairs()[3:], strict=True):
            assert torch.equal(first[0], second[0])
            assert torch.equal(first[1], second[1])
        recontrast_loss(outputs, alpha=-3.0).backward()
        learning = {name: value for name, value in model.named_parameters() if value.requires_grad}
        assert all(value.grad is not None for value in learning.values())
