"""ReContrast's training step: ours against a plain reference-style step, in one run.

The reference-style step is fp32 and contiguous (the authors' flattening takes no other order), its AdamW is
PyTorch's default, it computes both head sets for both halves and mines with gradient hooks. `tuned` is the
same with what PyTorch offers without other code: channels last and the fused AdamW. Ours is the step that
`recontrast-*` run; with `kept` the frozen encoder's maps are at hand, as in recipes that keep them. All start
from the same weights, see the same images and take turns. Prints CPU seconds per step, the ratios to ours
(above 1: ours is faster), how far the first losses differ, and what share of a large product's rate the
step reaches.

    OMP_NUM_THREADS=1 python benchmarks/bench_train_step.py [--recipe quickstart] [--batch 16] [--rounds 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from plain import plain
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from adcommon.io.memory import keep_freed_memory
from recontrast.losses import criterion_of, mining_alpha
from recontrast.model import ReContrast, build
from recontrast.optimiser import make_optimiser, update
from recontrast.recipes import MVTEC, RECIPES

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


def gigaflops(work: Callable[[], object]) -> float:
    """Billions of multiplications and additions of a piece of work, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counted:
        work()
    return counted.get_total_flops() / 1e9


def product_rate(side: int = 2048) -> float:
    """Billions per CPU second in a product of two large matrices."""
    left, right = torch.randn(side, side), torch.randn(side, side)
    began = time.process_time()
    left @ right
    return 2 * side**3 / 1e9 / (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="mvtec", choices=["mvtec", "quickstart"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--also", nargs="*", default=[], choices=["kept", "bf16"], help="ways of ours")
    options = parser.parse_args()
    keep_freed_memory()  # as all commands do; here the plain steps have it too

    torch.manual_seed(0)
    recipe = replace(RECIPES[options.recipe], encoder_norm="eval")
    alpha = mining_alpha(ITERATION, MVTEC.iterations, recipe.mining_ramp)
    criterion = criterion_of(replace(recipe, iterations=MVTEC.iterations), ITERATION)
    start = build(recipe, weights="pretrained" if options.recipe == "quickstart" else "random")
    shape = (options.batch, 3, recipe.image_size, recipe.image_size)
    accelerator = Accelerator(cpu=True)

    def runner(name: str) -> Callable[[Tensor], float]:
        model = deepcopy(start)
        if name in ("reference", "tuned"):
            model = plain(model)
        if name != "reference":
            model = model.to(memory_format=torch.channels_last)
        optimiser, _ = make_optimiser(model, recipe)
        for group in optimiser.param_groups:
            group["fused"] = name != "reference"

        def step(batch: Tensor) -> float:
            if name != "reference":
                batch = batch.contiguous(memory_format=torch.channels_last)
            if name in ("reference", "tuned"):
                loss = reference_step(model, batch, optimiser, alpha)
            else:
                frozen = kept if name == "ours, kept" else None
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=name == "ours, bf16"):
                    loss = update(model, batch, optimiser, accelerator, criterion, frozen=frozen)
            optimiser.zero_grad()  # of one model at a time is enough to hold
            return float(loss)

        return step

    names = ["reference", "tuned", "ours", *(f"ours, {way}" for way in options.also)]
    steps = {name: runner(name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, list[float]] = {name: [] for name in names}
    rates = []
    for _ in range(options.rounds + 1):
        images = torch.randn(shape)
        kept = start.frozen_features(images.contiguous(memory_format=torch.channels_last))
        rates.append(product_rate())
        for name, step in steps.items():
            began = time.process_time()
            losses[name].append(step(images))
            seconds[name].append(time.process_time() - began)

    print(f"{recipe.backbone}, {options.batch} images of {recipe.image_size}x{recipe.image_size} pixels")
    print(f"{torch.get_num_threads()} threads, median of {options.rounds} steps after one to warm up")
    rate = statistics.median(rates[1:])
    for name in names:
        spent = statistics.median(seconds[name][1:])
        ratios = [a / b for a, b in zip(seconds[name][1:], seconds["ours"][1:], strict=True)]
        first = abs(losses[name][0] - losses["reference"][0])
        print(
            f"{name:<10} {spent:7.3f} CPU s, {statistics.median(ratios):5.2f} of ours "
            f"({min(ratios):.2f} to {max(ratios):.2f})   first loss differs by {first:.1e}"
        )
        if options.recipe == "mvtec":  # depthwise convolutions, which the other has, are counted as full ones
            count = gigaflops(partial(steps[name], images))
            share = count / spent / rate
            print(
                f"    {count:.0f} GFLOP, {count / spent:.0f} a second, {share:.2f} of a product's {rate:.0f}"
            )


if __name__ == "__main__":
    main()
