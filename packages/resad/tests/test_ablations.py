from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from resad.ablations import ABLATIONS
from resad.losses import RunningBoundaries
from resad.model import ResAD
from resad.network.residual import residual
from resad.optimiser import Optimisers, update
from resad.recipes import PAPER


def two_steps(make_model, maps: list[torch.Tensor], recipe) -> tuple[list[torch.Tensor], ResAD]:
    """Losses of constraintor and flows over two steps of the second stage, and the model after them."""
    model = make_model(**vars(recipe)).train()
    residuals = [residual(level, level.flip(0), recipe.residual) for level in maps]
    masks = [torch.zeros(3, *level.shape[2:], dtype=torch.bool) for level in maps]
    for mask in masks:
        mask[1, :2, :2] = True
    optimisers, boundaries = Optimisers(model, recipe), RunningBoundaries(2)
    torch.manual_seed(0)
    losses = []
    for _ in range(2):
        step = update(
            *(model, residuals, masks, optimisers, boundaries, recipe, Accelerator(cpu=True)),
            second_stage=True,
        )
        losses += [step.constraint_total, torch.stack(step.flows).sum()]
    return losses, model.eval()


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_the_losses_or_the_scores(name: str, make_model, residuals, recipe) -> None:
    recipe = replace(recipe, flow_batch=16, lr=1e-2)
    changes = {key: value for key, value in vars(ABLATIONS[name]).items() if value != getattr(PAPER, key)}
    full, ours = (two_steps(make_model, residuals, replace(recipe, **some)) for some in ({}, changes))
    same = [torch.allclose(*pair, rtol=1e-6) for pair in zip(full[0], ours[0], strict=True)]
    assert all(same) == (name == "no_matching")  # of the test alone
    with torch.inference_mode():
        scores = [model(residuals)[0].normal for model in (full[1], ours[1])]
    assert not torch.allclose(*scores, rtol=1e-4)
    before, after = make_model(**vars(recipe)).constraintor, ours[1].constraintor
    still = all(map(torch.equal, before.parameters(), after.parameters()))
    assert still == ("no_constraint" in name)


def test_the_loss_of_normal_rows_alone_is_that_of_the_first_stage(make_model, residuals, recipe) -> None:
    full, _ = two_steps(make_model, residuals, recipe)
    normal, _ = two_steps(make_model, residuals, replace(recipe, constraint="normal"))
    assert normal[0] < full[0]


def test_features_without_residuals_are_the_features() -> None:
    maps, matched = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    assert torch.equal(residual(maps, matched, "none"), maps)
