"""RealNet's diffusion: a training step and guided sampling, against plain code of the same equations.

The reference is written as the authors' code computes: attention as two products around a softmax, with both
factors scaled; Adam parameter by parameter; the average entry by entry; sampling as a loop over the steps.
Weights, draws and losses are the same in both; that results are equal is asserted. Times are CPU time of one
thread, which other work on the machine disturbs least. Beside them: how much of ours is convolutions and
matrix products, which both have to compute, and how fast they run beside one large product.

    OMP_NUM_THREADS=1 python benchmarks/bench_diffusion.py [--network small64] [--batch 4] [--rounds 7]
"""

import argparse
import copy
from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from bench_realnet import compare
from plain import N, plain
from products import explain, operations_of
from torch import Tensor, nn

from realnet.diffusion.data import TrainingBatch
from realnet.diffusion.draws import normal
from realnet.diffusion.network.ema import Ema
from realnet.diffusion.process import make_process, to_pixels
from realnet.diffusion.recipes import (
    CLASSIFIER_RECIPES,
    DIFFUSION_RECIPES,
    UNETS,
    DiffusionRecipe,
    SampleRecipe,
)
from realnet.diffusion.sample import Batch, Sampler, draw_strengths
from realnet.diffusion.settings import SampleSettings
from realnet.diffusion.setup import make_optimiser, place
from realnet.diffusion.store import Learnt, build
from realnet.diffusion.train_diffusion import add_gradient
from realnet.network.attention import Attention

CATEGORIES = ("bottle", "cable", "capsule")


class ReferenceAttention(Attention):
    """Every head's weights are laid out, then its values are averaged by them."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        heads = self.qkv(self.norm(flat)).reshape(len(x) * self.heads, -1, flat.shape[2])
        query, key, value = heads.chunk(3, dim=1)
        factor = query.shape[1] ** -0.25
        weights = torch.einsum("bct,bcs->bts", query * factor, key * factor).float().softmax(dim=2)
        seen = torch.einsum("bts,bcs->bct", weights, value).reshape(flat.shape)
        return (flat + self.proj_out(seen)).view_as(x)


def as_reference(network: N) -> N:
    """The same network, computed with torch's own convolutions and plain attention."""
    for module in network.modules():
        if isinstance(module, Attention):
            module.__class__ = ReferenceAttention
    return plain(network)


def awake(network: N) -> N:
    """Values instead of the zeros that layers start from, so that they count."""
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return network


class ReferenceTraining:
    """Steps as the reference takes them."""

    def __init__(self, network: nn.Module, recipe: DiffusionRecipe) -> None:
        self.network, self.recipe = network, recipe
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(network.parameters(), lr=recipe.lr, foreach=False)
        self.process = make_process(recipe, "cpu")

    def __call__(self, batch: TrainingBatch) -> float:
        noisy = self.process.add_noise(batch.clean, batch.noise, batch.steps)
        output = self.network(noisy, self.process.times[batch.steps], batch.labels)
        loss = self.process.losses(output, batch.clean, batch.noise, batch.steps).total.mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        decay = self.recipe.ema_decay
        with torch.no_grad():
            present = self.network.state_dict()
            for name, value in self.average.state_dict().items():
                value.copy_(decay * value + (1 - decay) * present[name])
        return loss.item()


def training(name: str, size: int, rounds: int) -> None:
    torch.manual_seed(0)
    recipe = DIFFUSION_RECIPES[name]
    start = awake(build(recipe, len(CATEGORIES))).train()
    reference = ReferenceTraining(as_reference(copy.deepcopy(start)), recipe)
    network = place(start, torch.device("cpu"), channels_last=recipe.channels_last)
    accelerator, process = Accelerator(cpu=True), make_process(recipe, "cpu")
    optimiser, ema = make_optimiser(network, recipe), Ema(network, recipe.ema_decay)
    shape = (size, 3, recipe.image_size, recipe.image_size)
    batch = TrainingBatch(
        torch.rand(shape) * 2 - 1,
        torch.arange(size) % len(CATEGORIES),
        torch.randn(shape),
        torch.randint(recipe.timesteps, (size,)),
    )

    def ours() -> float:
        loss, _ = add_gradient(network, process, batch, accelerator, recipe)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        ema.update()
        return loss.item()

    pairs = [(reference(batch), ours()) for _ in range(3)]
    apart = max(abs(a - b) / a for a, b in pairs)
    assert apart < 1e-3, pairs
    print(f"losses of three steps differ by {apart:.0e} at most, relative")
    compare(f"training step, batch {size}", lambda: reference(batch), ours, rounds, 1)
    explain(ours, operations_of(ours))


@torch.no_grad()
def reference_sample(
    networks: Sequence[nn.Module], recipe: DiffusionRecipe, how: SampleRecipe, batch: Batch
) -> np.ndarray:
    """The images of a batch, as the reference draws them, from the random numbers that ours has."""
    unet, classifier = networks
    process, draws = make_process(recipe, "cpu", how.respacing), batch.draws(how.seed)
    strengths = draw_strengths(how, batch.size, draws)[:, None, None, None]
    shape = (batch.size, 3, recipe.image_size, recipe.image_size)
    images = normal(shape, draws, "cpu")
    labels = torch.full((batch.size,), CATEGORIES.index(batch.category))
    for number in reversed(range(process.steps)):
        steps = torch.full((batch.size,), number)
        step = process.step_back(unet(images, process.times[steps], labels), images, steps)
        with torch.enable_grad():
            leaf = images.detach().requires_grad_()
            known = classifier(leaf, process.times[steps]).log_softmax(dim=1)
            (slope,) = torch.autograd.grad(known[range(batch.size), labels].sum(), leaf)
        mean = step.mean + step.log_variance.exp() * slope * how.classifier_scale
        drawn = normal(shape, draws, "cpu")
        images = mean + (number > 0) * (0.5 * step.log_variance).exp() * (1 + strengths).sqrt() * drawn
    return to_pixels(images).numpy()


def sampling(name: str, size: int, rounds: int) -> None:
    torch.manual_seed(0)
    recipe, guide = DIFFUSION_RECIPES[name], CLASSIFIER_RECIPES[name]
    kinds = (recipe, guide)
    networks = [awake(build(kind, len(CATEGORIES))).eval().requires_grad_(False) for kind in kinds]
    references = [as_reference(copy.deepcopy(network)) for network in networks]
    how, batch = SampleRecipe(batch_size=size, respacing="ddim5"), Batch("cable", 0, size)
    drawing, guiding = (Learnt(net, kind, CATEGORIES) for net, kind in zip(networks, kinds, strict=True))
    sampler = Sampler(how, drawing, guiding, Accelerator(cpu=True), SampleSettings())
    theirs, own = reference_sample(references, recipe, how, batch), sampler.draw(batch)
    apart = np.abs(theirs.astype(int) - own)
    assert apart.max() <= 1, apart.max()
    print(f"of {apart.size} values of drawn images {np.count_nonzero(apart)} differ, by one level")
    compare(
        f"sampling, batch {size}, five steps",
        lambda: reference_sample(references, recipe, how, batch),
        lambda: sampler.draw(batch),
        rounds,
        size,
    )
    images, times = torch.randn(size, 3, recipe.image_size, recipe.image_size), torch.zeros(size)
    unet, classifier = networks
    with torch.no_grad():  # the gradient of the images takes as many as the classifier's answer
        forward = operations_of(lambda: unet(images, times, times.long()))
        guided = operations_of(lambda: classifier(images, times))
    explain(lambda: sampler.draw(batch), 5 * (forward + 2 * guided))


PARTS = {"training": training, "sampling": sampling}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--network", choices=[name for name in UNETS if name != "full256"], default="small64")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"one thread, network {options.network}")
    for part in options.parts:
        PARTS[part](options.network, options.batch, options.rounds)


if __name__ == "__main__":
    main()
