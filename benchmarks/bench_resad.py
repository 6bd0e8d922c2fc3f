"""ResAD: a training step and the scoring of an image, ours against reference-style ones, in one run.

The reference-style step opens, resizes and encodes the references of every category of its batch, image by
image in the training process, encodes the queries, normalises reference rows for every query, and gives the
position code to the flows row by row. Ours takes features that were computed once, matches with one product
per category and level, and looks position codes up in a table per cell. Queries come decoded in both. They
start from the same weights and take turns. Prints seconds, the ratios (above 1: ours is faster), and how far
residuals, losses and maps differ.

    python benchmarks/bench_resad.py [--backbone NAME] [--size 128] [--side 900] [--batch 16] [--rounds 5]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from adcommon.data import load_splits
from adcommon.data.normalise import normalise
from adcommon.data.order import epoch_order
from adcommon.models.anomaly_maps import max_score
from adcommon.testing.trees import make_mvtec
from resad.backbone import build_backbone, make_preprocess
from resad.data import TrainingData
from resad.detector import ResADDetector, ScoreRange, merged_map
from resad.losses import RunningBoundaries
from resad.model import LevelScores, ResAD
from resad.network.flow import Flow, log_likelihoods, position_codes
from resad.network.residual import Residual, as_maps, as_rows, residual
from resad.optimiser import Optimisers, update
from resad.recipes import QUICKSTART
from resad.references import encode

CATEGORIES = ("bottle", "cable", "capsule", "carpet")


class RowByRow(torch.nn.Module):
    """A flow that is given its position code for every row, as a research script does."""

    def __init__(self, flow: Flow) -> None:
        """Share the parameters of `flow`."""
        super().__init__()
        self.module_list = flow.module_list

    def forward(
        self, rows: Tensor, codes: Tensor, cells: Tensor, autocast: object = None
    ) -> tuple[Tensor, Tensor]:
        """Latent rows and log-determinants, in fp32 whatever `autocast` would enter."""
        condition, log_det = codes[cells], rows.new_zeros(len(rows))
        for block in self.module_list:
            first, activation, second = block.subnet
            x1, x2 = rows[:, : block.kept], rows[:, block.kept :]
            a = 0.1 * second(activation(first(torch.cat([x1, condition], dim=1))))
            s, t = a.chunk(2, dim=1)
            s = block.clamp * torch.tanh(s)
            gamma = 0.1 * F.softplus(block.global_scale, beta=0.5)
            joined = torch.cat([x1, x2 * s.exp() + t], dim=1)
            rows = (joined * gamma + block.global_offset) @ block.w_perm.T
            log_det = log_det + s.sum(dim=1) + gamma.log().sum()
        return rows, log_det


def residual_image_by_image(maps: Tensor, references: Tensor, kind: Residual) -> Tensor:
    """Residuals of each image, its references normalised anew."""
    found = []
    for image in maps:
        rows = image.flatten(1).T
        similarity = F.normalize(rows, dim=1) @ F.normalize(references, dim=1).T
        found.append(references[similarity.argmax(dim=1)])
    return residual(maps, as_maps(torch.cat(found), maps), kind)


def turns(
    steps: dict[str, Callable[[int], object]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list]]:
    """Seconds and results of each step, taking turns; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    results: dict[str, list] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            results[name].append(step(number))
            seconds[name].append(time.perf_counter() - began)
    return {name: times[1:] for name, times in seconds.items()}, results


def show(what: str, seconds: dict[str, list[float]], per: int = 1) -> None:
    (slow, fast) = seconds.values()
    ratios = sorted(a / b for a, b in zip(slow, fast, strict=True))
    median = [sorted(times)[len(times) // 2] / per for times in (slow, fast)]
    print(
        f"{what}: reference-style {median[0]:.4f} s, ours {median[1]:.4f} s, "
        f"ratio {ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--backbone", default=QUICKSTART.backbone)
    parser.add_argument("--size", type=int, default=QUICKSTART.image_size)
    parser.add_argument("--side", type=int, default=900, help="of the image files, pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", default="pretrained")
    options = parser.parse_args()

    cells = (options.size // 16) ** 2
    recipe = replace(
        QUICKSTART,
        setting="mvtec_to_visa",
        backbone=options.backbone,
        image_size=options.size,
        batch_size=options.batch,
        train_ref_shot=options.shots,
        flow_batch=min(4096, cells * options.batch),
        first_stage_epochs=0,
        scale_residuals=False,
        calibration_share=0.0,
    )
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        make_mvtec(
            Path(folder) / "mvtec", CATEGORIES, train=12, test_good=8, test_defect=8, size=options.side
        )
        splits = load_splits("mvtec", Path(folder), CATEGORIES)
        backbone, preprocess = build_backbone(recipe, options.weights), make_preprocess(recipe)
        data = TrainingData(splits, backbone, preprocess, recipe, memory_bytes=8 * 2**30)
        train_steps(recipe, data, options.rounds)
        score_images(recipe, data, options.rounds)
    threads = torch.get_num_threads()
    print(f"{options.backbone}, {options.size} pixels from files of {options.side}, {threads} threads")


def train_steps(recipe, data: TrainingData, rounds: int) -> None:
    """A step of stage 2; every image has been seen once, as after the first epoch."""
    device, accelerator = torch.device("cpu"), Accelerator(cpu=True)
    backbone, preprocess = data.store.network, data.preprocess
    start = ResAD(list(backbone.channels), recipe)
    data.store.fill()
    per_epoch = data.plan().second_stage_steps

    def reference_residuals(epoch: int, number: int) -> list[Tensor]:
        size = recipe.batch_size
        order = epoch_order(len(data.second_stage), recipe.seed, epoch)[number * size : (number + 1) * size]
        queries = [data.second_stage[place] for place in order]
        names = [data.records[place].category for place in queries]
        levels = backbone(decoded[torch.tensor(queries)])
        found = [torch.empty_like(maps) for maps in levels]
        for name in sorted(set(names)):
            images = [data.records[place].image for place in data.draw(name, epoch, number, queries)]
            rows = backbone(normalise(np.stack([preprocess.pixels(image) for image in images]), preprocess))
            places = [place for place, category in enumerate(names) if category == name]
            for level, maps in enumerate(levels):
                own = as_rows(rows[level])
                found[level][places] = residual_image_by_image(maps[places], own, recipe.residual)
        return found

    decoded = normalise(np.stack([preprocess.pixels(record.image) for record in data.records]), preprocess)

    def runner(reference: bool):
        model = deepcopy(start)
        optimisers, boundaries = Optimisers(model, recipe), RunningBoundaries(recipe.feature_levels)
        if reference:
            model.estimators = torch.nn.ModuleList(RowByRow(flow) for flow in model.estimators)
        model.train()

        def step(number: int) -> tuple[list[Tensor], float]:
            epoch, place = divmod(number, per_epoch)
            torch.manual_seed(number)
            batch = None if reference else data.batch(epoch, place, device)
            residuals = reference_residuals(epoch, place) if reference else batch.residuals
            masks = masks_of(epoch, place) if reference else batch.masks
            losses = update(
                model, residuals, masks, optimisers, boundaries, recipe, accelerator, second_stage=True
            )
            return residuals, float(torch.stack(losses.items()).mean())

        return step

    masks = {}

    def masks_of(epoch: int, place: int) -> list[Tensor]:
        return masks[epoch, place]

    for number in range(rounds + 1):  # masks are no part of the comparison
        epoch, place = divmod(number, per_epoch)
        masks[epoch, place] = data.batch(epoch, place, device).masks
    seconds, results = turns({"reference": runner(True), "ours": runner(False)}, rounds)
    show(f"training step of {recipe.batch_size} images", seconds)
    first = zip(results["reference"][0][0], results["ours"][0][0], strict=True)
    apart = max(float((a - b).abs().max() / a.std()) for a, b in first)
    print(f"    residuals differ by {apart:.1e} deviations")
    pairs = [(a[1], b[1]) for a, b in zip(results["reference"], results["ours"], strict=True)]
    print(f"    losses differ by {max(abs(a - b) / abs(a) for a, b in pairs):.1e} (relative, all steps)")


def score_images(recipe, data: TrainingData, rounds: int) -> None:
    """Eight references; the reference scores one image at a time, ours sixteen."""
    backbone, preprocess = data.store.network, data.preprocess
    model = ResAD(list(backbone.channels), recipe).eval()
    images = normalise(
        np.stack([preprocess.pixels(record.image) for record in data.records[12:28]]), preprocess
    )
    references = encode(backbone, [record.image for record in data.records[:8]], preprocess)
    scale = ScoreRange((0.0,) * recipe.feature_levels, float(recipe.feature_levels))
    detector = ResADDetector(backbone, model, preprocess, references, scale=scale)
    plain = [RowByRow(flow) for flow in model.estimators]

    @torch.inference_mode()
    def reference(number: int) -> Tensor:
        maps = []
        for image in images:
            levels = backbone(image[None])
            residuals = [
                residual_image_by_image(level, rows.rows, recipe.residual)
                for level, rows in zip(levels, references.levels, strict=True)
            ]
            scores = []
            for flow, level in zip(plain, model.constraintor(model.matched(residuals)), strict=True):
                height, width = level.shape[2:]
                codes = position_codes(model.condition, height, width)
                z, log_det = flow(as_rows(level), codes, torch.arange(height * width))
                normal, anomalous = log_likelihoods(z, log_det)
                shape = (1, height, width)
                scores.append(
                    LevelScores(normal.reshape(shape), torch.sigmoid(anomalous - normal).reshape(shape))
                )
            maps.append(merged_map(scores, (image.shape[1], image.shape[2]), scale))
        return torch.cat(maps)

    steps = {"reference": reference, "ours": lambda number: detector.score(images).anomaly_maps}
    seconds, results = turns(steps, rounds)
    show("scoring, per image", seconds, per=len(images))
    a, b = results["reference"][0], results["ours"][0]
    maps, scores = (float((x - y).abs().max()) for x, y in ((a, b), (max_score(a), max_score(b))))
    spread = float(a.std())
    print(f"    maps differ by {maps:.1e} (their deviation: {spread:.1e}), image scores by {scores:.1e}")


if __name__ == "__main__":
    main()
