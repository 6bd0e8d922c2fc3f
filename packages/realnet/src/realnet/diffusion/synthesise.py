"""Sampling with a little too much noise (SDAS, section 3.1), the deterministic sampler, its inversion.

Every sampler yields the images after each step, the last ones being the result.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from realnet.diffusion.process import Images, PerImage, Process

Network = Callable[[Images, PerImage], Float[Tensor, "batch 6 height width"]]
"""A denoising network whose labels are given already."""
Noise = Callable[[int], Images]
"""The random numbers of an iteration, the noisiest step being 0."""


@dataclass(frozen=True)
class Guidance:
    """A classifier that draws samples towards their classes."""

    classifier: nn.Module
    labels: Int64[Tensor, " batch"]
    scale: float = 1.0
    """Factor of the gradient."""

    def gradient(self, images: Images, times: PerImage) -> Images:
        """Gradient of the log probabilities of the labels, with respect to the images."""
        with torch.inference_mode(False), torch.enable_grad():
            # Copies, because tensors made in inference mode cannot be part of a graph.
            leaf = images.clone().requires_grad_()
            logits = self.classifier(leaf, times.clone()).float()
            surprise = F.cross_entropy(logits, self.labels.clone(), reduction="sum")
            (gradient,) = torch.autograd.grad(surprise, leaf)
        return -self.scale * gradient


def sample(
    network: Network,
    process: Process,
    start: Images,
    noise: Noise,
    *,
    strengths: PerImage,
    guidance: Guidance | None = None,
) -> Iterator[Images]:
    """Strength-controllable sampling: each step's noise has 1 + s times the variance it should have.

    Args:
        start: standard normal numbers, as `noise` gives for each iteration.
        strengths: s of each image; 0 draws normal images.
    """
    images = start
    spread = (1 + strengths).sqrt()[:, None, None, None]
    for iteration, steps in enumerate(_backwards(process, start)):
        times = process.times[steps]
        step = process.step_back(network(images, times), images, steps)
        mean = step.mean
        if guidance is not None:
            mean = mean + step.log_variance.exp() * guidance.gradient(images, times)
        drawn = noise(iteration)
        is_last = iteration == process.steps - 1
        images = mean if is_last else mean + (0.5 * step.log_variance).exp() * spread * drawn
        yield images


def sample_ddim(
    network: Network,
    process: Process,
    start: Images,
    noise: Noise,
    *,
    strengths: PerImage,
    guidance: Guidance | None = None,
    eta: float = 0.0,
) -> Iterator[Images]:
    """The deterministic sampler of arXiv 2010.02502 with sqrt(s) times the process's own noise on top.

    Args:
        strengths: s of each image; values around 0.02 are in use.
        eta: share of DDPM's noise; 0 is deterministic where s is 0.
    """
    images = start
    extra = strengths.sqrt()[:, None, None, None]
    for iteration, steps in enumerate(_backwards(process, start)):
        times = process.times[steps]
        step = process.step_back(network(images, times), images, steps)
        left = process.alphas_cumprod[steps][:, None, None, None]
        before = process.alphas_cumprod_prev[steps][:, None, None, None]
        clean = step.clean
        if guidance is not None:
            slope = (1 - left).sqrt() * guidance.gradient(images, times)
            guided = process.find_noise(images, clean, steps) - slope
            clean = process.remove_noise(images, guided, steps)
        found = process.find_noise(images, clean, steps)
        sigma = eta * ((1 - before) / (1 - left)).sqrt() * (1 - left / before).sqrt()
        deviation = sigma + extra * (0.5 * step.log_variance).exp()
        drawn = noise(iteration)
        images = clean * before.sqrt() + (1 - before - sigma**2).sqrt() * found
        if iteration < process.steps - 1:
            images = images + deviation * drawn
        yield images


def invert(network: Network, process: Process, images: Images) -> Iterator[Images]:
    """The way from images to the noise that `sample_ddim` would draw them from, step by step."""
    for number in range(process.steps):
        steps = torch.full((len(images),), number, device=images.device)
        step = process.step_back(network(images, process.times[steps]), images, steps)
        found = process.find_noise(images, step.clean, steps)
        after = process.alphas_cumprod_next[steps][:, None, None, None]
        images = step.clean * after.sqrt() + (1 - after).sqrt() * found
        yield images


def last(images: Iterator[Images]) -> Images:
    """The result of a sampler."""
    for result in images:
        latest = result
    return latest


def _backwards(process: Process, images: Images) -> Iterator[Int64[Tensor, " batch"]]:
    """The number of the step for each image, from the noisiest to 0."""
    for number in reversed(range(process.steps)):
        yield torch.full((len(images),), number, device=images.device)
