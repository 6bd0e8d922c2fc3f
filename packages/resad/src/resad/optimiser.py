"""One training step: quantisers, then constraintors, then each level's flow block by block."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from resad.losses import FlowLoss, RunningBoundaries, StepLosses, constraint_loss, normal_boundary
from resad.model import ResAD
from resad.network.flow import log_likelihoods
from resad.network.residual import as_rows
from resad.recipes import Recipe

logger = logging.getLogger(__name__)

IMAGEBIND_MASK = 0.3
"""Share of a cell above which ImageBind's level mask is anomalous."""

Maps = list[Float[Tensor, "batch _ _ _"]]
Permute = Callable[[int, torch.device], Int64[Tensor, " rows"]]


class Optimisers:
    """Three Adams and their schedules: quantisers, constraintors, all flows together."""

    def __init__(self, model: ResAD, recipe: Recipe) -> None:
        """One parameter group each."""
        self.set_to_none = not recipe.legacy_zero_grad
        self.optimisers: dict[str, Optimizer] = {
            name: Adam(part.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
            for name, part in (
                ("vq", model.vq_ops),
                ("constraintor", model.constraintor),
                ("flows", model.estimators),
            )
        }
        self.schedules = {
            name: MultiStepLR(optimiser, list(recipe.lr_milestones), gamma=0.1)
            for name, optimiser in self.optimisers.items()
        }

    def step(self, name: str, loss: Float[Tensor, ""], accelerator: Accelerator) -> None:
        """One update of the part `name`, with gradients averaged over processes."""
        optimiser = self.optimisers[name]
        # Faithful: zeroed gradients of the levels that this loss does not reach still move them.
        optimiser.zero_grad(set_to_none=self.set_to_none)
        accelerator.backward(loss)
        scaler = accelerator.scaler  # None but in fp16
        if scaler is None:
            _average_gradients(optimiser, accelerator)
            optimiser.step()
            return
        scaler.unscale_(optimiser)
        _average_gradients(optimiser, accelerator)
        scaler.step(optimiser)
        scaler.update()

    def end_epoch(self) -> None:
        """Advance the schedules."""
        for schedule in self.schedules.values():
            schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs; a schedule's milestones are a Counter, which becomes a dict."""
        return {
            "optimisers": {name: part.state_dict() for name, part in self.optimisers.items()},
            "schedules": {
                name: {
                    key: dict(value) if isinstance(value, dict) else value
                    for key, value in part.state_dict().items()
                }
                for name, part in self.schedules.items()
            },
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state."""
        for kind, parts in (("optimisers", self.optimisers), ("schedules", self.schedules)):
            for name, part in parts.items():
                part.load_state_dict(state_dict[kind][name])


def _average_gradients(optimiser: Optimizer, accelerator: Accelerator) -> None:
    """Replace each gradient by its mean over processes; all of them have the same ones."""
    if accelerator.num_processes == 1:
        return
    gradients = [
        parameter.grad
        for group in optimiser.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    mean = accelerator.reduce(together, reduction="mean")
    for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def level_mask(
    masks: Bool[Tensor, "batch mask_height mask_width"], size: tuple[int, int], *, imagebind: bool
) -> Bool[Tensor, "batch height width"]:
    """Masks at a level's size: nearest pixel, or for ImageBind bilinear and above 0.3."""
    grey = masks[:, None].float()
    if imagebind:
        return F.interpolate(grey, size, mode="bilinear", align_corners=False)[:, 0] > IMAGEBIND_MASK
    return F.interpolate(grey, size, mode="nearest")[:, 0] > 0


def update(
    model: ResAD,
    residuals: Maps,
    masks: list[Bool[Tensor, "batch _ _"]],
    optimisers: Optimisers,
    boundaries: RunningBoundaries,
    recipe: Recipe,
    accelerator: Accelerator,
    *,
    second_stage: bool,
    permute: Permute = lambda rows, device: torch.randperm(rows, device=device),
) -> StepLosses:
    """One step of all three optimisers on a batch.

    Args:
        boundaries: updated in place, block by block.
        second_stage: with the boundary losses.
        permute: the order in which a level's rows reach its flow.
    """
    rows = [as_rows(maps) for maps in residuals]
    flat = [mask.flatten() for mask in masks]

    found = [
        model.vq_ops[level].loss(part, mask)
        for level, (part, mask) in enumerate(zip(rows, flat, strict=True))
    ]
    quantiser = torch.stack([loss for loss, _ in found]).sum()
    optimisers.step("vq", quantiser, accelerator)

    # The flows see what the constraintor gave before its update.
    with accelerator.autocast():
        outputs = model.constrained(residuals)
    constrained = [as_rows(maps).float() for maps in outputs]
    keeps_anomalous = second_stage and recipe.constraint == "full"
    parts = [
        constraint_loss(output, mask, before if keeps_anomalous else None, orthogonal=recipe.is_imagebind)
        for output, mask, before in zip(constrained, flat, rows, strict=True)
    ]
    if model.constrains:
        optimisers.step("constraintor", torch.stack([part.total for part in parts]).sum(), accelerator)

    flow_loss = FlowLoss(
        log_sigmoid=not recipe.is_imagebind,
        margin_tau=recipe.margin_tau,
        contrast_weight=1.0 if recipe.is_imagebind else recipe.bgspp_lambda,
    )
    block_rows = recipe.flow_batch // accelerator.num_processes
    flows: list[Tensor] = []
    for level, flow in enumerate(model.estimators):
        inputs, mask = constrained[level].detach(), flat[level]
        codes, cells = model.positions(residuals[level])
        order = permute(len(inputs), inputs.device)
        for block in order.split(block_rows):
            if len(block) < block_rows:  # Faithful: what does not fill a block is dropped.
                break
            places = None if cells is None else cells.index_select(0, block)
            z, log_det = flow(inputs.index_select(0, block), codes, places, accelerator.autocast)
            normal, anomalous = log_likelihoods(z, log_det)
            anomalies = mask.index_select(0, block)
            new = normal_boundary(normal, anomalies, recipe.pos_beta)
            boundaries.update(level, accelerator.gather(new[None]).nanmean())
            boundary = boundaries.values[level] if second_stage else None
            loss = flow_loss.of(normal, anomalous, anomalies, boundary)
            optimisers.step("flows", loss, accelerator)
            flows.append(loss.detach())
    return StepLosses(
        quantiser.detach(), [part.detach() for part in parts], flows, [used for _, used in found]
    )


def untrained_levels(cells: Sequence[int], recipe: Recipe) -> list[int]:
    """Levels (from 1) whose rows of a batch fill no block, so that their flow stays as it was drawn."""
    rows = [count * recipe.batch_size for count in cells]
    levels = [level for level, count in enumerate(rows, start=1) if count < recipe.flow_batch]
    if levels:
        logger.warning(
            "the flows of level %s never train: a step has fewer rows than --flow_batch %d, and they keep "
            "their random start; %d or less trains all of them",
            *(", ".join(map(str, levels)), recipe.flow_batch, min(rows)),
        )
    return levels
