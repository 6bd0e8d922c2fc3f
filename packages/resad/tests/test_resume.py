from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.training.run import Run
from resad.epoch import EpochLosses
from resad.losses import RunningBoundaries
from resad.optimiser import Optimisers, update
from resad.recipes import Recipe
from resad.resume import Progress, restore, save


@pytest.fixture
def fresh(make_model, recipe: Recipe):
    def make():
        model = make_model()
        return model, Progress(Optimisers(model, recipe), RunningBoundaries(2), EpochLosses())

    return make


def step(parts, residuals, recipe: Recipe):
    model, progress = parts
    masks = [torch.zeros(3, maps.shape[2], maps.shape[3], dtype=torch.bool) for maps in residuals]
    done = update(
        model,
        residuals,
        masks,
        progress.optimisers,
        progress.boundaries,
        recipe,
        Accelerator(cpu=True),
        second_stage=True,
    )
    progress.losses.add([done])
    return done.items()


def test_after_a_restore_the_next_step_is_the_same_to_the_bit(
    fresh, residuals, recipe: Recipe, tmp_path: Path
) -> None:
    recipe = replace(recipe, flow_batch=16, lr=1e-2)
    run = Run(tmp_path / "run")
    first = fresh()
    step(first, residuals, recipe)
    first[1].optimisers.end_epoch()
    first[1].best = 0.5
    run.log(1, {"loss": 1.0})
    save(run, 1, recipe, *first, Accelerator(cpu=True))
    run.log(2, {"loss": 2.0})
    following = step(first, residuals, recipe)

    torch.manual_seed(99)
    second = fresh()
    assert restore(run, recipe, *second, Accelerator(cpu=True)) == 1
    assert second[1].best == 0.5
    assert all(torch.equal(a, b) for a, b in zip(following, step(second, residuals, recipe), strict=True))
    state = first[0].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in second[0].state_dict().items())
    assert second[1].boundaries.values == first[1].boundaries.values
    assert second[1].losses.sums == first[1].losses.sums
    assert run.metrics.read_text().splitlines() == ["step,loss", "1,1.0"]


def test_nothing_saved_means_step_zero(fresh, recipe: Recipe, tmp_path: Path) -> None:
    assert restore(Run(tmp_path / "run"), recipe, *fresh(), Accelerator(cpu=True)) == 0


def test_another_recipe_or_a_damaged_file_is_refused(fresh, recipe: Recipe, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    save(run, 1, recipe, *fresh(), Accelerator(cpu=True))
    with pytest.raises(BadValue, match=r"batch_size was 4, is 8"):
        restore(run, replace(recipe, batch_size=8), *fresh(), Accelerator(cpu=True))
    run.state.write_bytes(run.state.read_bytes()[:1000])
    with pytest.raises(WrongCheckpoint, match=r"state\.pt.*\n.*--force"):
        restore(run, recipe, *fresh(), Accelerator(cpu=True))
