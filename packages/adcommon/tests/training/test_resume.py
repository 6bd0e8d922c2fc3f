from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.training.resume import restore, save
from adcommon.training.run import Run


@dataclass(frozen=True)
class Recipe:
    batch_size: int = 16


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def parts() -> dict:
    layer = nn.Linear(3, 2)
    return {"model": layer, "optimiser": torch.optim.AdamW(layer.parameters())}


def step(parts: dict) -> torch.Tensor:
    loss = parts["model"](torch.rand(4, 3)).square().mean()
    parts["optimiser"].zero_grad()
    loss.backward()
    parts["optimiser"].step()
    return loss.detach()


def test_after_a_restore_the_next_step_draws_and_computes_the_same(tmp_path, accelerator) -> None:
    run, whole = Run(tmp_path / "run"), parts()
    step(whole)
    run.log(1, {"loss": 1.0})
    save(run, 1, Recipe(), whole, accelerator)
    run.log(2, {"loss": 2.0})
    loss = step(whole)

    torch.manual_seed(99)
    resumed = parts()
    assert restore(run, Recipe(), resumed, accelerator) == 1
    assert step(resumed) == loss
    assert torch.equal(resumed["model"].weight, whole["model"].weight)
    assert run.metrics.read_text().splitlines() == ["step,loss", "1,1.0"]


def test_nothing_saved_means_step_zero(tmp_path: Path, accelerator) -> None:
    assert restore(Run(tmp_path / "run"), Recipe(), parts(), accelerator) == 0


def test_another_recipe_is_refused_by_name_and_value(tmp_path: Path, accelerator) -> None:
    run = Run(tmp_path / "run")
    save(run, 1, Recipe(), parts(), accelerator)
    with pytest.raises(BadValue, match=r"batch_size was 16, is 8"):
        restore(run, replace(Recipe(), batch_size=8), parts(), accelerator)


def test_a_damaged_state_is_named(tmp_path: Path, accelerator) -> None:
    run = Run(tmp_path / "run")
    save(run, 1, Recipe(), parts(), accelerator)
    run.state.write_bytes(run.state.read_bytes()[:1000])
    with pytest.raises(WrongCheckpoint, match=r"state\.pt.*\n.*--force"):
        restore(run, Recipe(), parts(), accelerator)
