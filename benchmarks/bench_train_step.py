"""ReContrast's training step: ours against a plain reference-style step, in one run.

The reference-style step is fp32 and contiguous, computes both head sets for both halves and mines
with gradient hooks; ours is the one that `recontrast-*` runs. They start from the same weights, see the same
images, and take turns. Prints seconds per step, the ratios (above 1: ours is faster), and how far the first
losses differ.

    python benchmarks/bench_train_step.py [--backbone resnet18] [--size 256] [--batch 8] [--rounds 5]
"""

import argparse
import time
from copy import deepcopy
from dataclasses import replace

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from recontrast.losses import mining_alpha
from recontrast.model import ReContrast, build
from recontrast.optimiser import make_optimiser, update
from recontrast.recipes import MVTEC

ITERATION = 150  # in the middle of the ramp of hard mining


def reference_step(
    model: ReContrast, images: Tensor, optimiser: torch.optim.Optimizer, alpha: float
) -> Tensor:
    """A step as a research script writes it: every output for every half, hooks on the reconstructions."""
    trained = model.encoder(images)
    with torch.no_grad():
        frozen = model.encoder_freeze(images)
    code = model.bottleneck([torch.cat(pair) for pair in zip(trained, frozen, strict=True)])
    decoder = model.decoder
    coarse = decoder.layer1(code)
    middle = decoder.layer2(coarse)
    levels = (decoder.layer3(middle), middle, coarse)
    heads = (decoder.out1, decoder.out2, decoder.out3)
    rebuilt = [[head[source](level) for head, level in zip(heads, levels, strict=True)] for source in (0, 1)]
    half = len(images)
    loss = torch.zeros(())
    for targets, outputs, part in (
        (frozen, rebuilt[0], slice(half)),
        (trained, rebuilt[1], slice(half, None)),
    ):
        for target, output in zip(targets, outputs, strict=True):
            chosen = output[part].contiguous()
            target = target.detach()
            with torch.no_grad():
                distance = 1 - F.cosine_similarity(target, chosen)
                easy = distance < distance.mean() + alpha * distance.std()
            flat = F.cosine_similarity(target.reshape(half, -1), chosen.reshape(half, -1))
            loss = loss + 0.5 * (1 - flat).mean()
            chosen.register_hook(lambda gradient, easy=easy: gradient * ~easy[:, None])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--backbone", default="wide_resnet50_2")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    torch.manual_seed(0)
    recipe = replace(MVTEC, backbone=options.backbone, image_size=options.size, encoder_norm="eval")
    alpha = mining_alpha(ITERATION, recipe.iterations, recipe.mining_ramp)
    start = build(recipe, weights="random")
    images = [torch.randn(options.batch, 3, options.size, options.size) for _ in range(options.rounds + 1)]
    accelerator = Accelerator(cpu=True)

    def runner(name: str):
        model = deepcopy(start)
        if name != "reference":
            model = model.to(memory_format=torch.channels_last)
        optimiser, _ = make_optimiser(model, recipe)

        def step(batch: Tensor) -> float:
            if name == "reference":
                return float(reference_step(model, batch, optimiser, alpha))
            batch = batch.to(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=name == "ours bf16"):
                return float(update(model, batch, optimiser, accelerator, alpha=alpha))

        return step

    steps = {name: runner(name) for name in ("reference", "ours fp32", "ours bf16")}
    seconds = {name: [] for name in steps}
    losses = {name: [] for name in steps}
    for batch in images:
        for name, step in steps.items():
            began = time.perf_counter()
            losses[name].append(step(batch))
            seconds[name].append(time.perf_counter() - began)

    print(f"{options.backbone}, {options.batch} images of {options.size}x{options.size} pixels")
    print(f"{torch.get_num_threads()} threads, median of {options.rounds} steps after one to warm up")
    median = {name: sorted(times[1:])[len(times[1:]) // 2] for name, times in seconds.items()}
    for name, value in median.items():
        ratios = sorted(a / b for a, b in zip(seconds["reference"][1:], seconds[name][1:], strict=True))
        first = abs(losses[name][0] - losses["reference"][0])
        print(
            f"{name:<10} {value:7.3f} s/step   ratio {ratios[len(ratios) // 2]:5.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})   first loss differs by {first:.1e}"
        )


if __name__ == "__main__":
    main()
