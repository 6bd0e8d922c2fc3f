import pytest
import torch

from realnet.diffusion.process import Process
from realnet.diffusion.schedule import make_schedule
from realnet.diffusion.synthesise import Guidance, invert, last, sample, sample_ddim

SHAPE = (2, 3, 8, 8)


@pytest.fixture
def process() -> Process:
    return Process(make_schedule(1000, respacing="ddim20"))


@pytest.fixture
def clean() -> torch.Tensor:
    return torch.rand(SHAPE) * 1.6 - 0.8


def knowing(process: Process, clean: torch.Tensor):
    """A network that knows the clean images and says what noise was added to them."""

    def network(images: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        steps = (times / 50).long()
        return torch.cat([process.find_noise(images, clean, steps), torch.zeros_like(images)], dim=1)

    return network


def draws(count: int = 20) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(SHAPE, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("sampler", [sample, sample_ddim])
def test_a_network_that_knows_the_image_draws_it(process, clean, sampler) -> None:
    steps = list(
        sampler(
            knowing(process, clean),
            process,
            torch.randn(SHAPE),
            draws().__getitem__,
            strengths=torch.zeros(2),
        )
    )
    assert len(steps) == 20
    torch.testing.assert_close(steps[-1], clean, rtol=0, atol=1e-4)


def test_inversion_leads_to_noise_that_leads_back(process, clean) -> None:
    network = knowing(process, clean)
    latent = last(
        invert(network, process, process.add_noise(clean, torch.randn(SHAPE), torch.zeros(2).long()))
    )
    assert latent.std() > 0.5
    again = last(sample_ddim(network, process, latent, draws().__getitem__, strengths=torch.zeros(2)))
    torch.testing.assert_close(again, clean, rtol=0, atol=1e-4)


def test_strength_widens_the_noise_of_a_step_and_nothing_else(process, clean) -> None:
    network, start = knowing(process, clean), torch.randn(SHAPE)
    first = {
        strength: next(
            iter(sample(network, process, start, draws().__getitem__, strengths=torch.full((2,), strength)))
        )
        for strength in (-1.0, 0.0, 3.0)  # -1 leaves the mean
    }
    torch.testing.assert_close(first[3.0] - first[-1.0], 2 * (first[0.0] - first[-1.0]), rtol=1e-4, atol=1e-5)


def test_strengths_of_one_batch_act_on_their_own_images(process, clean) -> None:
    network, start = knowing(process, clean), torch.randn(SHAPE)
    together = last(sample(network, process, start, draws().__getitem__, strengths=torch.tensor([0.0, 0.2])))
    for row, strength in enumerate((0.0, 0.2)):
        alone = last(
            sample(network, process, start, draws().__getitem__, strengths=torch.full((2,), strength))
        )
        assert torch.equal(alone[row], together[row])


class Brightness(torch.nn.Module):
    """Two classes: dark and bright."""

    def forward(self, images: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        bright = images.flatten(1).mean(dim=1)
        return torch.stack([-bright, bright], dim=1)


@pytest.mark.parametrize("sampler", [sample, sample_ddim])
def test_guidance_moves_the_samples_towards_their_classes(process, sampler) -> None:
    def noisy(images: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.9 * images, torch.zeros_like(images)], dim=1)

    start, results = torch.randn(SHAPE), {}
    for scale in (0.0, 50.0):
        guidance = Guidance(Brightness(), torch.tensor([0, 1]), scale)
        with torch.inference_mode():
            drawn = last(
                sampler(
                    noisy, process, start, draws().__getitem__, strengths=torch.zeros(2), guidance=guidance
                )
            )
        results[scale] = drawn.flatten(1).mean(dim=1)
    dark, bright = results[50.0] - results[0.0]
    assert dark < -0.01
    assert bright > 0.01


def test_a_guiding_gradient_is_that_of_the_labels_log_probability() -> None:
    images, times = torch.randn(SHAPE), torch.zeros(2)
    found = Guidance(Brightness(), torch.tensor([0, 1]), 2.0).gradient(images, times)

    def log_probability(shifted: torch.Tensor) -> torch.Tensor:
        return Brightness()(shifted, times).log_softmax(1)[[0, 1], [0, 1]].sum()

    nudge = torch.zeros(SHAPE)
    nudge[1, 2, 3, 4] = 0.1
    slope = (log_probability(images + nudge) - log_probability(images - nudge)) / 0.2
    assert found[1, 2, 3, 4].item() == pytest.approx(2 * slope.item(), rel=1e-2)
