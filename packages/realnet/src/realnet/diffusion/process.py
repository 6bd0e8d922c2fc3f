"""The diffusion process: adding noise (q), one step back (p), and the training losses.

Variances are learned between the smallest and the largest possible one (arXiv 2102.09672, section 3.1).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from realnet.diffusion.base_recipe import TrainingRecipe
from realnet.diffusion.schedule import Schedule, make_schedule

Images = Float[Tensor, "batch 3 height width"]
PerImage = Float[Tensor, " batch"]

HALF_LEVEL = 1 / 255
"""Half the distance of two grey levels in [-1, 1]."""
OPEN_END = 0.999
"""Beyond this value the outermost grey levels reach to infinity."""
LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Losses:
    """Of each image; their sum is what the network is trained on."""

    mse: PerImage
    """Mean square of the error of the noise."""
    vb: PerImage
    """Variational bound of this step, bits per value; it trains the variance alone."""

    @property
    def total(self) -> PerImage:
        """The training loss."""
        return self.mse + self.vb


@dataclass(frozen=True)
class Step:
    """p(x_{t-1} | x_t) as the network sees it."""

    mean: Images
    log_variance: Images
    clean: Images
    """The image it takes to be behind the noise."""


class Process:
    """A schedule's tables on a device, in float32, and what they are used for."""

    def __init__(self, schedule: Schedule, device: torch.device | str = "cpu") -> None:
        """Compute the tables in float64 and round them."""
        kept = schedule.alphas_cumprod

        def table(values: np.ndarray) -> Float[Tensor, " steps"]:
            return torch.from_numpy(values).to(device, torch.float32)

        self.steps = len(kept)
        self.device = torch.device(device)
        self.times = table(schedule.times)
        self.alphas_cumprod = table(kept)
        self.alphas_cumprod_prev = table(schedule.alphas_cumprod_prev)
        self.alphas_cumprod_next = table(schedule.alphas_cumprod_next)
        self.signal = table(np.sqrt(kept))
        self.noise = table(np.sqrt(1.0 - kept))
        self.inverse_signal = table(np.sqrt(1.0 / kept))
        self.noise_to_signal = table(np.sqrt(1.0 / kept - 1.0))
        self.log_beta = table(np.log(schedule.betas))
        self.posterior_log_variance = table(schedule.posterior_log_variance_clipped)
        self.weight_clean = table(schedule.posterior_mean_coef1)
        self.weight_noisy = table(schedule.posterior_mean_coef2)

    def add_noise(self, clean: Images, noise: Images, steps: Int64[Tensor, " batch"]) -> Images:
        """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise."""
        return _each(self.signal[steps]) * clean + _each(self.noise[steps]) * noise

    def remove_noise(self, noisy: Images, noise: Images, steps: Int64[Tensor, " batch"]) -> Images:
        """x_0 of `add_noise`."""
        return _each(self.inverse_signal[steps]) * noisy - _each(self.noise_to_signal[steps]) * noise

    def find_noise(self, noisy: Images, clean: Images, steps: Int64[Tensor, " batch"]) -> Images:
        """The noise of `add_noise`."""
        return (_each(self.inverse_signal[steps]) * noisy - clean) / _each(self.noise_to_signal[steps])

    def posterior_mean(self, clean: Images, noisy: Images, steps: Int64[Tensor, " batch"]) -> Images:
        """Mean of q(x_{t-1} | x_t, x_0)."""
        return _each(self.weight_clean[steps]) * clean + _each(self.weight_noisy[steps]) * noisy

    def step_back(
        self,
        output: Float[Tensor, "batch 6 height width"],
        noisy: Images,
        steps: Int64[Tensor, " batch"],
        *,
        clip: bool = True,
    ) -> Step:
        """p(x_{t-1} | x_t) from the network's output: noise, then the log variance's place in its limits.

        Args:
            clip: limit the clean image to [-1, 1].
        """
        noise, place = output.chunk(2, dim=1)
        share = (place + 1) / 2
        smallest, largest = _each(self.posterior_log_variance[steps]), _each(self.log_beta[steps])
        clean = self.remove_noise(noisy, noise, steps)
        if clip:
            clean = clean.clamp(-1, 1)
        return Step(
            mean=self.posterior_mean(clean, noisy, steps),
            log_variance=share * largest + (1 - share) * smallest,
            clean=clean,
        )

    def losses(
        self,
        output: Float[Tensor, "batch 6 height width"],
        clean: Images,
        noise: Images,
        steps: Int64[Tensor, " batch"],
    ) -> Losses:
        """The training losses of each image; the network saw `add_noise(clean, noise, steps)`."""
        guess, place = output.chunk(2, dim=1)
        frozen = torch.cat([guess.detach(), place], dim=1)
        noisy = self.add_noise(clean, noise, steps)
        step = self.step_back(frozen, noisy, steps, clip=False)
        divergence = _normal_divergence(
            self.posterior_mean(clean, noisy, steps),
            _each(self.posterior_log_variance[steps]),
            step.mean,
            step.log_variance,
        )
        decoding = -_level_log_probability(clean, step.mean, 0.5 * step.log_variance)
        bits = torch.where(steps == 0, _mean(decoding), _mean(divergence)) / math.log(2)
        return Losses(mse=_mean((noise - guess) ** 2), vb=bits)


def make_process(recipe: TrainingRecipe, device: torch.device | str, respacing: str | None = None) -> Process:
    """The process that a network learns, or has learnt; by default all of its steps, see `make_schedule`."""
    numbers = (recipe.timesteps, recipe.noise_schedule, respacing)
    return Process(make_schedule(*numbers, rescale_times=recipe.rescale_times), device)


def to_pixels(images: Images) -> Tensor:
    """Images with values in [-1, 1] as 8-bit pixels, channels last; truncated, as the reference does."""
    return ((images + 1) * 127.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _each(values: PerImage) -> Float[Tensor, "batch 1 1 1"]:
    return values[:, None, None, None]


def _mean(values: Images) -> PerImage:
    return values.flatten(1).mean(dim=1)


def _normal_divergence(
    mean: Tensor, log_variance: Tensor, other: Tensor, other_log_variance: Tensor
) -> Images:
    """KL divergence of a normal distribution from an other one, in nats."""
    return 0.5 * (
        -1.0
        + other_log_variance
        - log_variance
        + torch.exp(log_variance - other_log_variance)
        + (mean - other) ** 2 * torch.exp(-other_log_variance)
    )


def _level_log_probability(values: Images, mean: Images, log_deviation: Images) -> Images:
    """Log probability that a normal variable falls on the grey level of `values`."""
    precision = torch.exp(-log_deviation)
    below = _normal_cdf(precision * (values - mean - HALF_LEVEL))
    above = _normal_cdf(precision * (values - mean + HALF_LEVEL))
    probability = torch.where(
        values < -OPEN_END, above, torch.where(values > OPEN_END, 1 - below, above - below)
    )
    return probability.clamp(min=LEAST_PROBABILITY).log()


def _normal_cdf(z: Tensor) -> Tensor:
    """The usual approximation of the normal distribution's CDF by tanh."""
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)))
