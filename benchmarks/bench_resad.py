"""ResAD: a training step and the scoring of an image, ours against plain code of the equations, in one run.

The plain code is what the equations say in PyTorch's own functions: autograd, boolean masks, the position
code beside every row, one fused Adam for each part, reference rows normalised once a step, or once for all
test images. Both steps begin with features in memory; with `--encode` the plain one begins with images, whose
features ours keeps. They start from the same weights, see the same rows in the same blocks and take turns.
Prints seconds, the ratios (above 1: ours is faster) of CPU time and of time, how far the losses of a first
step, image scores and maps differ, and how much of ours is matrix products.

    OMP_NUM_THREADS=1 python benchmarks/bench_resad.py [--recipe paper] [--batch 16] [--rounds 5] [--encode]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from plain import plain as plain_convolutions
from products import explain, operations_of
from torch import Tensor
from torch.optim import Adam

from adcommon.io.memory import keep_freed_memory
from adcommon.models.anomaly_maps import max_score
from resad.backbone import build_backbone, make_preprocess
from resad.detector import ResADDetector, ScoreRange, likelihood_map, probability_map
from resad.losses import RunningBoundaries
from resad.model import ResAD
from resad.network.positions import position_codes
from resad.network.residual import ReferenceRows, References, match_classes, residual
from resad.optimiser import Optimisers, level_mask, update
from resad.recipes import RECIPES, Recipe

CATEGORIES = 4
SINGLES = 5
"""Turns of a single image for each of a step: it is short, so that other work on the machine weighs more."""
CONSTANT = -0.9189385332046727
R = TypeVar("R")


def rows_of(maps: Tensor) -> Tensor:
    """Maps as rows: image by image, then row, then column."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def plain_residuals(maps: Tensor, references: list[Tensor], unit: list[Tensor], kind: str) -> Tensor:
    """Residuals of each image to its nearest reference rows; both lists have an entry for each image."""
    found = []
    for image, rows, directions in zip(maps, references, unit, strict=True):
        similarity = F.normalize(image.flatten(1).T, dim=1) @ directions.T
        found.append(rows[similarity.argmax(dim=1)].T.reshape(image.shape))
    difference = maps - torch.stack(found)
    return difference**2 if kind == "square" else difference


def plain_likelihoods(flow: Any, rows: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
    """L_n and L_a of rows beside their position codes."""
    log_det = torch.zeros(len(rows))
    for block in flow.module_list:
        first, activation, second = block.subnet
        x1, x2 = rows[:, : block.kept], rows[:, block.kept :]
        a = 0.1 * second(activation(first(torch.cat([x1, condition], dim=1))))
        s, t = a.chunk(2, dim=1)
        s = block.clamp * torch.tanh(s)
        gamma = 0.1 * F.softplus(block.global_scale, beta=0.5)
        joined = torch.cat([x1, x2 * s.exp() + t], dim=1)
        rows = F.linear(joined * gamma + block.global_offset, block.w_perm)
        log_det = log_det + s.sum(dim=1) + gamma.log().sum()
    channels = rows.shape[1]
    normal, anomalous = (
        (channels * CONSTANT - 0.5 * (rows - centre).square().sum(dim=1) + log_det) / channels
        for centre in (0, 1)
    )
    return normal, anomalous


def mean(values: Tensor) -> Tensor:
    """The mean, 0 of nothing."""
    return values.mean() if len(values) else values.sum()


def barrier(excess: Tensor) -> Tensor:
    """-l(-x) sg(exp(x)) of what is above 0."""
    excess = excess[excess > 0]
    return mean(-F.logsigmoid(-excess) * excess.detach().exp())


def plain_constraint(rows: Tensor, before: Tensor, mask: Tensor) -> Tensor:
    """The two-sided hypersphere loss of one level."""
    size = torch.sqrt(rows.norm(dim=1) + 1) - 1
    anomalous, normal = size[mask], size[~mask]
    outer = min(0.9 * anomalous.min().item(), 0.4) if len(anomalous) else 0.4
    loss = barrier(normal - outer) + barrier(0.99 * outer - normal)
    if len(anomalous):
        changed, kept = rows[mask], before[mask]
        loss = loss + F.mse_loss(changed, kept) + (1 - F.cosine_similarity(changed, kept)).mean()
        loss = loss + barrier(outer + 0.1 - anomalous)
    return loss


def plain_flow_loss(
    normal: Tensor, anomalous: Tensor, mask: Tensor, boundary: float, recipe: Recipe
) -> Tensor:
    """Likelihoods, focal and boundary losses of a block in stage 2."""
    loss = mean(-F.logsigmoid(normal[~mask]))
    if not mask.any():
        return loss
    p = torch.softmax(torch.stack([normal, anomalous], dim=1), dim=1)
    smooth = F.one_hot(mask.long(), 2).clamp(1e-5, 1 - 1e-5)
    q = (smooth * p).sum(dim=1) + 1e-5
    inside, outside, limit = normal[~mask], normal[mask], boundary - recipe.margin_tau
    pulled = mean(-F.logsigmoid(-(boundary - inside[inside <= boundary])))
    pushed = mean(-F.logsigmoid(-(outside[outside >= limit] - limit)))
    loss = loss - F.logsigmoid(anomalous[mask]).mean() - ((1 - q) ** 2 * q.log()).mean()
    return loss + recipe.bgspp_lambda * (pulled + pushed)


class PlainStep:
    """A step of stage 2 from features."""

    def __init__(self, model: ResAD, recipe: Recipe, masks: list[Tensor]) -> None:
        """Bind model and masks."""
        self.model, self.recipe, self.masks = model, recipe, [mask.flatten() for mask in masks]
        self.boundaries = [0.0] * len(masks)
        self.optimisers = [
            Adam(part.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
            for part in (model.vq_ops, model.constraintor, model.estimators)
        ]

    def minimise(self, place: int, loss: Tensor) -> float:
        """One update."""
        self.optimisers[place].zero_grad()
        loss.backward()
        self.optimisers[place].step()
        return loss.item()

    def __call__(self, features: list[Tensor], known: list[Tensor]) -> list[float]:
        """All losses of the step; `known` has the references of each level, category by category."""
        recipe, model, residuals = self.recipe, self.model, []
        for maps, references in zip(features, known, strict=True):
            shown = [rows_of(images) for images in references.chunk(CATEGORIES)]
            unit = [F.normalize(each, dim=1) for each in shown]
            share = len(maps) // CATEGORIES
            own, directions = ([each for each in parts for _ in range(share)] for parts in (shown, unit))
            residuals.append(plain_residuals(maps, own, directions, recipe.residual))
        quantiser = torch.zeros(())
        for level, (maps, mask) in enumerate(zip(residuals, self.masks, strict=True)):
            normal, codes = rows_of(maps)[~mask], model.vq_ops[level].embedding
            with torch.no_grad():
                squares = codes.weight.square().sum(dim=1)
                nearest = torch.addmm(squares, normal, codes.weight.T, alpha=-2).argmin(dim=1)
            chosen = codes(nearest)
            quantiser = quantiser + F.mse_loss(chosen.detach(), normal) + 0.25 * F.mse_loss(chosen, normal)
        losses = [self.minimise(0, quantiser)]
        constrained = [rows_of(maps) for maps in model.constraintor(residuals)]
        parts = zip(constrained, map(rows_of, residuals), self.masks, strict=True)
        losses.append(self.minimise(1, sum((plain_constraint(*part) for part in parts), torch.zeros(()))))
        for level, flow in enumerate(model.estimators):
            rows, height, width = constrained[level].detach(), *features[level].shape[2:]
            condition = position_codes(model.condition, height, width).repeat(len(features[level]), 1)
            for block in torch.randperm(len(rows)).split(recipe.flow_batch):
                if len(block) < recipe.flow_batch:
                    break
                normal, anomalous = plain_likelihoods(flow, rows[block], condition[block])
                mask = self.masks[level][block]
                inside = normal.detach()[~mask].sort().values
                new = inside[int(len(inside) * recipe.pos_beta)].item()
                self.boundaries[level] = 0.9 * self.boundaries[level] + 0.1 * new
                loss = plain_flow_loss(normal, anomalous, mask, self.boundaries[level], recipe)
                losses.append(self.minimise(2, loss))
        return losses


@torch.inference_mode()
def plain_score(detector: ResADDetector, images: Tensor) -> Tensor:
    """The merged map of one image; reference rows are known with their directions."""
    model, likelihoods, probabilities = detector.model, [], []
    for level, (maps, flow) in enumerate(zip(detector.backbone(images), model.estimators, strict=True)):
        known = detector.references.levels[level]
        residuals = plain_residuals(maps, [known.rows], [known.unit], model.residual)
        codes = model.vq_ops[level].embedding.weight
        distances = torch.addmm(codes.square().sum(dim=1), rows_of(residuals), codes.T, alpha=-2)
        quantised = codes[distances.argmin(dim=1)].T.reshape(residuals.shape)
        ordered, places = residuals.flatten(2).sort(dim=2)
        wanted = quantised.flatten(2).sort(dim=2).values
        moved = ordered + (1 - model.fdm_alpha) * (wanted - ordered)
        moved = torch.empty_like(moved).scatter_(2, places, moved).reshape(maps.shape)
        constrained = model.constraintor.get_submodule(f"l{level + 1}_proj")(moved)
        condition = position_codes(model.condition, *maps.shape[2:])
        normal, anomalous = plain_likelihoods(flow, rows_of(constrained), condition)
        shape = (1, *maps.shape[2:])
        probability = torch.softmax(torch.stack([normal, anomalous], dim=1), dim=1)[:, 1]
        likelihoods.append(normal.reshape(shape))
        probabilities.append(probability.reshape(shape))
    size = (images.shape[2], images.shape[3])
    return (likelihood_map(likelihoods, size, detector.scale) + probability_map(probabilities, size)) / 2


def compare(what: str, plain: Callable[[int], R], ours: Callable[[int], R], rounds: int) -> tuple[R, R]:
    """The first results; both take turns, and the first turns warm up."""
    spent: list[list[float]] = []
    first: list[R] = []
    for number in range(rounds + 1):
        results: list[R] = []
        times: list[float] = []
        for step in (plain, ours):
            began = time.process_time(), time.perf_counter()
            results.append(step(number))
            times += [time.process_time() - began[0], time.perf_counter() - began[1]]
        spent.append(times)
        first = first or results
    print(f"{what}: plain {statistics.median(row[0] for row in spent[1:]):.4f} CPU s, ", end="")
    print(f"ours {statistics.median(row[2] for row in spent[1:]):.4f}", end="")
    for kind, place in (("CPU time", 0), ("time", 1)):
        ratios = [row[place] / row[place + 2] for row in spent[1:]]
        print(f"; {kind} {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", end="")
    print()
    return first[0], first[1]


def compare_steps(recipe: Recipe, options: argparse.Namespace) -> None:
    """Steps of stage 2, half of the images anomalous."""
    backbone, shots = build_backbone(recipe, "random"), CATEGORIES * recipe.train_ref_shot
    plain_backbone = plain_convolutions(deepcopy(backbone))
    images = torch.randn(recipe.batch_size + shots, 3, recipe.image_size, recipe.image_size)
    encoded = [level for level in backbone(images)]
    features, known = (
        [level[part] for level in encoded]
        for part in (slice(recipe.batch_size), slice(recipe.batch_size, None))
    )
    drawn = torch.zeros(recipe.batch_size, recipe.image_size, recipe.image_size, dtype=torch.bool)
    drawn[::2, 8:40, 8:40] = True
    masks = [level_mask(drawn, maps.shape[2:], imagebind=False) for maps in features]
    model = ResAD(list(backbone.channels), recipe).train()
    plain_step = PlainStep(plain_convolutions(deepcopy(model)), recipe, masks)
    optimisers, boundaries = Optimisers(model, recipe), RunningBoundaries(recipe.feature_levels)
    names = [str(place * CATEGORIES // recipe.batch_size) for place in range(recipe.batch_size)]

    def plain(number: int) -> list[float]:
        torch.manual_seed(number)
        if not options.encode:
            return plain_step(features, known)
        batch, shown = images[: recipe.batch_size], images[recipe.batch_size :]
        return plain_step(plain_backbone(batch), plain_backbone(shown))

    def ours(number: int) -> list[float]:
        torch.manual_seed(number)
        residuals = []
        for level, references in zip(features, known, strict=True):
            maps = level.contiguous(memory_format=torch.channels_last)
            parts = references.contiguous(memory_format=torch.channels_last).chunk(CATEGORIES)
            rows = {str(place): ReferenceRows.of(rows_of(part)) for place, part in enumerate(parts)}
            residuals.append(residual(maps, match_classes(maps, names, rows), recipe.residual))
        done = update(
            model, residuals, masks, optimisers, boundaries, recipe, Accelerator(cpu=True), second_stage=True
        )
        return torch.stack(done.kinds()["items"]).tolist()

    what = f"step of {recipe.batch_size} images, {CATEGORIES} x {recipe.train_ref_shot} references"
    theirs, own = compare(what, plain, ours, options.rounds)
    apart = max(abs(a - b) / abs(a) for a, b in zip(theirs, own, strict=True))
    print(f"    {len(own)} losses of the first step differ by at most {apart:.1e} (relative)")
    explain(lambda: ours(0), operations_of(lambda: ours(0)))


def compare_images(recipe: Recipe, options: argparse.Namespace) -> None:
    """Single images from pixels to maps, and sixteen at once; four references."""
    backbone = build_backbone(recipe, "random")
    model = ResAD(list(backbone.channels), recipe)
    with torch.no_grad():
        references = References.of(backbone(torch.randn(4, 3, recipe.image_size, recipe.image_size)))
    scale = ScoreRange((0.0,) * recipe.feature_levels, float(recipe.feature_levels))
    detector = ResADDetector(backbone, model, make_preprocess(recipe), references, scale=scale)
    theirs_too = plain_convolutions(deepcopy(backbone)), plain_convolutions(deepcopy(model))
    reference = ResADDetector(*theirs_too, make_preprocess(recipe), references, scale=scale)
    for count in (1, options.images):
        images = torch.randn(count, 3, recipe.image_size, recipe.image_size)

        def plain(_: int, images: Tensor = images) -> Tensor:
            return torch.cat([plain_score(reference, each) for each in images.split(1)])

        def ours(_: int, images: Tensor = images) -> Tensor:
            maps = detector.score(images).anomaly_maps
            assert isinstance(maps, Tensor)
            return maps

        rounds = options.rounds * SINGLES if count == 1 else options.rounds
        theirs, own = compare(f"{count} test images, plain one by one", plain, ours, rounds)
        maps, scores = (
            float((a - b).abs().max()) for a, b in ((theirs, own), (max_score(theirs), max_score(own)))
        )
        print(
            f"    maps differ by {maps:.1e} (their deviation: {float(own.std()):.1e}), scores by {scores:.1e}"
        )
        score = partial(detector.score, images)
        explain(score, operations_of(score))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="quickstart", choices=["quickstart", "paper", "multishot"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--encode", action="store_true", help="the plain step computes its features")
    options = parser.parse_args()
    keep_freed_memory()  # as all commands do; here the plain steps have it too
    recipe = RECIPES[options.recipe]
    rows = recipe.flow_batch * options.batch // recipe.batch_size  # as many blocks as the recipe's batch has
    recipe = replace(recipe, batch_size=options.batch, flow_batch=rows)
    torch.manual_seed(0)
    compare_steps(recipe, options)
    compare_images(recipe, options)
    print(
        f"{options.recipe}: {recipe.backbone}, {recipe.image_size} pixels, flow blocks of {rows} rows, ",
        end="",
    )
    print(f"{torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
