from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from recontrast.losses import criterion_of
from recontrast.model import build
from recontrast.optimiser import holds_encoder, make_optimiser, reset, resets_optimiser, update
from recontrast.recipes import MVTEC, MVTEC_MULTICLASS, MVTEC_STABLE, VISA_STABLE

SMALL = replace(MVTEC, backbone="test_efficientnet", image_size=64)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_the_encoder_rests_for_99_iterations_after_each_reset() -> None:
    held = [iteration for iteration in range(2000) if holds_encoder(MVTEC_STABLE, iteration)]
    assert held == [*range(500, 599), *range(1000, 1099), *range(1500, 1599)]
    assert not any(holds_encoder(VISA_STABLE, iteration) for iteration in range(4000))
    assert not any(holds_encoder(MVTEC, iteration) for iteration in range(2000))


def test_the_decoders_optimiser_is_reset_after_every_500th_iteration() -> None:
    resets = [iteration for iteration in range(2000) if resets_optimiser(MVTEC_STABLE, iteration)]
    assert resets == [499, 999, 1499, 1999]
    assert not any(resets_optimiser(MVTEC, iteration) for iteration in range(2000))


def test_a_reset_forgets_decoder_and_bottleneck_and_keeps_the_encoder(images: torch.Tensor) -> None:
    model = build(SMALL, weights="random")
    optimiser, _ = make_optimiser(model, SMALL)
    update(model, images, optimiser, Accelerator(cpu=True), criterion_of(MVTEC, 150))
    reset(optimiser)
    states = [
        [parameter in optimiser.state for parameter in group["params"]] for group in optimiser.param_groups
    ]
    assert not any(states[0] + states[1])
    assert all(states[2])


def test_a_held_encoder_does_not_move_and_the_decoder_does(images: torch.Tensor) -> None:
    model = build(SMALL, weights="random")
    optimiser, _ = make_optimiser(model, SMALL)
    encoder, decoder = model.encoder.conv_stem.weight.clone(), model.decoder.out1[0].weight.clone()
    update(model, images, optimiser, Accelerator(cpu=True), criterion_of(MVTEC, 150), hold_encoder=True)
    assert torch.equal(model.encoder.conv_stem.weight, encoder)
    assert not torch.equal(model.decoder.out1[0].weight, decoder)


def test_the_learning_rates_fall_once_at_four_fifths_in_the_multi_class_recipe() -> None:
    recipe = replace(MVTEC_MULTICLASS, backbone="test_efficientnet", iterations=10)
    model = build(recipe, weights="random")
    optimiser, schedule = make_optimiser(model, recipe)
    used = []
    for _ in range(recipe.iterations):
        used.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        schedule.step()
    assert used[7] == [2e-3, 2e-3, 1e-5]
    assert used[8] == pytest.approx([4e-4, 4e-4, 2e-6])


def test_bf16_moves_the_loss_by_less_than_a_hundredth(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = build(SMALL, weights="random")
    optimiser, _ = make_optimiser(model, replace(SMALL, decoder_lr=0.0, encoder_lr=0.0))
    exact = update(model, images, optimiser, Accelerator(cpu=True), criterion_of(MVTEC, 0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = update(model, images, optimiser, Accelerator(cpu=True), criterion_of(MVTEC, 0))
    assert rounded.dtype == torch.float32
    assert abs(float(rounded - exact)) < 0.01
    assert float(rounded) != float(exact)
