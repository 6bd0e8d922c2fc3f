"""What `gpu.sh` times of each method: its training step, ours and a reference's way, and its detector.

Sizes are the papers', on a CPU tiny ones; weights are random, batches random numbers that lie on the device
already. The reference-style steps are those of the other benchmarks, in fp32 and with features computed anew.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Protocol

import bench_realnet_train
import bench_train_step
import bench_uniad
import torch
from accelerate import Accelerator
from plain import plain
from torch import Tensor, nn

from adcommon.training.devices import distribute
from adcommon.types.prediction import Detector
from realnet.detector import RealNetDetector
from realnet.detector import make_preprocess as realnet_preprocess
from realnet.diffusion import store
from realnet.diffusion.data import TrainingBatch
from realnet.diffusion.process import make_process
from realnet.diffusion.recipes import DiffusionRecipe
from realnet.diffusion.setup import make_optimiser as diffusion_optimiser
from realnet.diffusion.train_diffusion import add_gradient
from realnet.model import RealNet
from realnet.optimiser import make_optimiser as realnet_optimiser
from realnet.optimiser import mixed_features
from realnet.optimiser import update as realnet_update
from realnet.recipes import RECIPES as REALNET
from recontrast.detector import make_detector as recontrast_detector
from recontrast.detector import make_preprocess as recontrast_preprocess
from recontrast.losses import criterion_of, mining_alpha
from recontrast.model import build as build_recontrast
from recontrast.optimiser import make_optimiser as recontrast_optimiser
from recontrast.optimiser import update as recontrast_update
from recontrast.recipes import MVTEC as RECONTRAST
from uniad.detector import make_detector as uniad_detector
from uniad.detector import make_preprocess as uniad_preprocess
from uniad.model import build as build_uniad
from uniad.optimiser import make_optimiser as uniad_optimiser
from uniad.optimiser import update as uniad_update
from uniad.recipes import MVTEC as UNIAD

Step = Callable[[], Tensor | float]
"""One update; returns a loss before it."""


class Sized(Protocol):
    """What every recipe has."""

    @property
    def batch_size(self) -> int:
        """Images of a step."""

    @property
    def image_size(self) -> int:
        """Their side, pixels."""


@dataclass(frozen=True)
class Subject:
    """One method on one device; each call of a maker starts from the same weights."""

    recipe: Sized
    keeps: bool
    """Whether the recipe keeps frozen features."""
    ours: Callable[[Accelerator, bool, bool], Step]
    """With an accelerator, which has the precision; compiled or not; with kept features or computed anew."""
    reference: Callable[[], Step] | None = None
    detector: Callable[[], Detector] | None = None


def recontrast(device: torch.device, tiny: bool) -> Subject:
    recipe = replace(RECONTRAST, encoder_norm="eval")
    if tiny:
        recipe = replace(recipe, backbone="resnet18", image_size=64, batch_size=2)
    images = torch.randn(recipe.batch_size, 3, recipe.image_size, recipe.image_size)
    start = build_recontrast(recipe, weights="random")
    alpha = mining_alpha(bench_train_step.ITERATION, recipe.iterations, recipe.mining_ramp)
    criterion = criterion_of(recipe, bench_train_step.ITERATION)

    def reference() -> Step:
        model = plain(deepcopy(start))
        optimiser, _ = recontrast_optimiser(model, recipe)
        return lambda: float(bench_train_step.reference_step(model, images, optimiser, alpha))

    def ours(accelerator: Accelerator, compiled: bool, kept: bool) -> Step:
        model = deepcopy(start).to(memory_format=torch.channels_last)
        optimiser, _ = recontrast_optimiser(model, recipe)
        batch = images.contiguous(memory_format=torch.channels_last)
        batch = batch[:: accelerator.num_processes]  # they share it
        maps = model.frozen_features(batch) if kept else None
        compile_if(compiled, model)
        network = distribute(model, accelerator)
        return lambda: recontrast_update(network, batch, optimiser, accelerator, criterion, frozen=maps)

    def detector() -> Detector:
        model = deepcopy(start).to(memory_format=torch.channels_last)
        return recontrast_detector(model, recontrast_preprocess(recipe), recipe)

    return Subject(recipe, recipe.cache_features, ours, reference, detector)


def uniad(device: torch.device, tiny: bool) -> Subject:
    recipe = replace(UNIAD, image_size=64, batch_size=2, neighbourhood=(3, 3)) if tiny else UNIAD
    images = torch.randn(recipe.batch_size, 3, recipe.image_size, recipe.image_size)
    start = build_uniad(recipe, weights="random").train()

    def reference() -> Step:
        model = plain(deepcopy(start))
        network = bench_uniad.ReferenceReconstruction(model.reconstruction, recipe).to(device).train()
        backbone = bench_uniad.WholeBackbone(model.backbone.pyramid).to(device)
        parameters = [value for name, value in network.named_parameters() if "_attn" not in name]
        for part in network.modules():
            if isinstance(part, bench_uniad.ReferenceAttention):  # whose masks are made on the CPU
                part.register_forward_pre_hook(lambda _, given: (*given[:3], given[3].to(device)))
        optimiser, _ = uniad_optimiser(parameters, recipe, 1)

        def step() -> float:
            features = backbone(images, model.reconstruction.grid)
            noise = torch.randn_like(features.flatten(2).permute(2, 0, 1))
            loss = (network(features, noise) - features).square().mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
            optimiser.step()
            return loss.item()

        return step

    def ours(accelerator: Accelerator, compiled: bool, kept: bool) -> Step:
        model = deepcopy(start)
        network, features = model.reconstruction, model.features(images)
        optimiser, _ = uniad_optimiser(network.parameters(), recipe, 1)
        compile_if(compiled, network)

        def step() -> Tensor:
            seen = features if kept else model.features(images)
            return uniad_update(network, seen, optimiser, accelerator, clip_norm=recipe.clip_norm)[0]

        return step

    return Subject(
        recipe,
        recipe.cache_features,
        ours,
        reference,
        lambda: uniad_detector(deepcopy(start), uniad_preprocess(recipe), recipe),
    )


def realnet(device: torch.device, tiny: bool) -> Subject:
    recipe = REALNET["mvtec"]
    if tiny:
        recipe = replace(REALNET["quickstart"], image_size=64, batch_size=2)
    clean, images, masks, anomalous = bench_realnet_train.pictures(recipe, recipe.batch_size)
    start = RealNet(recipe, weights="random").train()

    def reference() -> Step:
        with device:
            step = bench_realnet_train.ReferenceStep(plain(deepcopy(start)), recipe)
        return lambda: sum(step(clean, images, masks))

    def ours(accelerator: Accelerator, compiled: bool, kept: bool) -> Step:
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        model = deepcopy(start).to(memory_format=layout)
        network, optimiser, maps = model.trainable(), realnet_optimiser(model, recipe), model.backbone(clean)
        compile_if(compiled, network)

        def step() -> Tensor:
            seen = maps if kept else model.backbone(clean)
            features, wanted = mixed_features(model, seen, images, anomalous)
            return realnet_update(network, features, wanted, masks, optimiser, accelerator, recipe).sum()

        return step

    return Subject(
        recipe,
        recipe.cache_features,
        ours,
        reference,
        lambda: RealNetDetector(deepcopy(start), realnet_preprocess(recipe), recipe),
    )


def diffusion(device: torch.device, tiny: bool) -> Subject:
    recipe, classes = DiffusionRecipe(), 15
    if tiny:
        small = replace(recipe, width=32, channel_mult=(1, 2), attention_at=(2,), head_width=16, depth=1)
        recipe = replace(small, image_size=16, batch_size=4, chunk_size=2)
    count, side = recipe.batch_size, recipe.image_size
    start = store.build(recipe, classes).train()
    process = make_process(recipe, device)
    clean, noise = torch.rand(2, count, 3, side, side) * 2 - 1
    labels, times = torch.arange(count) % classes, torch.arange(count) * 7
    batch = TrainingBatch(clean, labels, noise, times)

    def ours(accelerator: Accelerator, compiled: bool, kept: bool) -> Step:
        network = deepcopy(start).to(memory_format=torch.channels_last)
        optimiser = diffusion_optimiser(network, recipe)
        compile_if(compiled, network)

        def step() -> Tensor:
            loss, _ = add_gradient(network, process, batch, accelerator, recipe)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            return loss

        return step

    return Subject(recipe, False, ours)


SUBJECTS: dict[str, Callable[[torch.device, bool], Subject]] = {
    "recontrast": recontrast,
    "uniad": uniad,
    "realnet": realnet,
    "diffusion": diffusion,
}


def compile_if(wanted: bool, *modules: nn.Module) -> None:
    """Have modules compiled at their first call, in place."""
    for module in modules if wanted else ():
        module.compile()
