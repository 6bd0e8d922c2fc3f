import math

import pytest
import torch

from realnet.diffusion.process import Process, to_pixels
from realnet.diffusion.schedule import make_schedule

SHAPE = (4, 3, 8, 8)


@pytest.fixture
def process() -> Process:
    return Process(make_schedule(1000))


@pytest.fixture
def clean() -> torch.Tensor:
    return torch.rand(SHAPE) * 2 - 1


def output(noise: torch.Tensor, place: float) -> torch.Tensor:
    return torch.cat([noise, torch.full_like(noise, place)], dim=1)


def test_noise_added_is_noise_found_and_removed(process, clean) -> None:
    noise, steps = torch.randn(SHAPE), torch.tensor([0, 10, 500, 900])
    noisy = process.add_noise(clean, noise, steps)
    torch.testing.assert_close(process.remove_noise(noisy, noise, steps), clean, rtol=0, atol=1e-3)
    torch.testing.assert_close(process.find_noise(noisy, clean, steps), noise, rtol=0, atol=1e-3)


def test_the_last_step_is_almost_pure_noise_and_the_first_almost_clean(process, clean) -> None:
    noise = torch.randn(SHAPE)
    assert (process.add_noise(clean, noise, torch.full((4,), 999)) - noise).abs().max() < 0.02
    assert (process.add_noise(clean, noise, torch.full((4,), 0)) - clean).abs().max() < 0.05


def test_the_variance_lies_between_its_limits(process, clean) -> None:
    noise, steps = torch.randn(SHAPE), torch.tensor([0, 10, 500, 999])
    noisy = process.add_noise(clean, noise, steps)
    found = {
        place: process.step_back(output(noise, place), noisy, steps).log_variance for place in (-1.0, 1.0)
    }
    schedule = make_schedule(1000)
    for row, step in enumerate(steps):
        torch.testing.assert_close(
            found[-1.0][row, 0, 0, 0].item(),
            float(schedule.posterior_log_variance_clipped[step]),
            rtol=1e-5,
            atol=0,
        )
        assert found[1.0][row, 0, 0, 0].item() == pytest.approx(math.log(schedule.betas[step]), rel=1e-5)


def test_clean_images_are_clipped_only_where_asked(process, clean) -> None:
    steps = torch.full((4,), 500)
    noisy = process.add_noise(3 * clean, torch.zeros(SHAPE), steps)
    given = output(torch.zeros(SHAPE), 0.0)
    assert process.step_back(given, noisy, steps).clean.abs().max() == 1
    assert process.step_back(given, noisy, steps, clip=False).clean.abs().max() > 1


def test_a_perfect_network_has_no_loss(process, clean) -> None:
    noise, steps = torch.randn(SHAPE), torch.tensor([1, 10, 500, 999])
    losses = process.losses(output(noise, -1.0), clean, noise, steps)
    assert losses.total.abs().max() < 1e-4


def test_the_bound_trains_the_variance_alone(process, clean) -> None:
    noise, steps = torch.randn(SHAPE), torch.tensor([0, 10, 500, 999])
    given = torch.randn(4, 6, 8, 8, requires_grad=True)
    process.losses(given, clean, noise, steps).vb.sum().backward()
    assert given.grad is not None
    guess, place = given.grad.chunk(2, dim=1)
    assert not guess.any()
    assert place.flatten(1).abs().amax(1).min() > 0
    given.grad = None
    process.losses(given, clean, noise, steps).mse.sum().backward()
    assert not given.grad.chunk(2, dim=1)[1].any()


def test_the_probabilities_of_all_grey_levels_add_up_to_one(process) -> None:
    levels = (torch.arange(256) / 127.5 - 1).view(256, 1, 1, 1).expand(256, 3, 1, 1)
    steps = torch.zeros(256, dtype=torch.long)
    noise = torch.full_like(levels, 0.3)
    # One noisy value, decoded to each of the 256 levels in turn.
    noisy = process.add_noise(torch.zeros_like(levels), noise, steps)
    bits = []
    for row in range(256):
        clean = levels[row : row + 1]
        # The noise that makes this level the same noisy value.
        needed = process.find_noise(noisy[:1], clean, steps[:1])
        fixed = output(process.find_noise(noisy[:1], torch.zeros_like(clean), steps[:1]), 0.0)
        bits.append(process.losses(fixed, clean, needed, steps[:1]).vb)
    assert float((2 ** -torch.cat(bits)).sum()) == pytest.approx(1.0, abs=1e-3)


def test_pixels_are_truncated_and_limited() -> None:
    values = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.999, 1.0, 3.0]).view(1, 1, 1, 7).expand(1, 3, 1, 7)
    assert to_pixels(values)[0, 0, :, 0].tolist() == [0, 0, 63, 127, 254, 255, 255]
