import random
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from adcommon.errors import BadValue, OutputFailed, UserError, WrongCheckpoint
from adcommon.testing.alterations import sample
from adcommon.training.resume import load_resume, refuse_without_room, restore, save, save_resume
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


def altered(run: Run, state: Any) -> None:
    torch.save(state, run.state)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("step",), "many", "step is a str; expected a value such as 0"),
        (("step",), -1, "step is -1; expected a whole number"),
        (("step",), None, "step is None; expected a whole number"),
        (("recipe",), [], "recipe is a list; expected a dict"),
        (("parts", "model"), 3, "parts.model is a int; expected a dict"),
        (
            ("parts", "model", "weight"),
            torch.zeros(1, 1),
            r"parts.model.weight is a Tensor; .* shape \(2, 3\)",
        ),
        (("parts", "new"), 3, "parts is a dict; expected other entries .*unknown: new"),
        (("torch_generator",), torch.zeros(3), "torch_generator is a Tensor; expected a tensor of shape"),
        (("torch_generator",), None, "does not fit this training"),
    ],
)
def test_a_wrong_value_in_a_state_is_named_with_the_way_out(
    tmp_path: Path, accelerator, place: tuple[str, ...], value: object, message: str
) -> None:
    run = Run(tmp_path / "run")
    save(run, 1, Recipe(), parts(), accelerator)
    state = torch.load(run.state)
    holder = state
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = value
    altered(run, state)
    with pytest.raises(WrongCheckpoint, match=rf"(?s)state\.pt.*{message}.*--force"):
        restore(run, Recipe(), parts(), accelerator)


def test_any_state_is_resumed_or_refused(tmp_path: Path, accelerator) -> None:
    run, trained = Run(tmp_path / "run"), parts()
    step(trained)
    save(run, 1, Recipe(), trained, accelerator)
    for name, state in sample(torch.load(run.state), 150):
        altered(run, state)
        now = parts()
        try:
            restore(run, Recipe(), now, accelerator)
        except UserError:
            continue
        if "param_groups" not in name:  # its numbers are what the optimiser is told to be
            assert torch.isfinite(step(now)), name


def test_a_damaged_state_is_named(tmp_path: Path, accelerator) -> None:
    run = Run(tmp_path / "run")
    save(run, 1, Recipe(), parts(), accelerator)
    run.state.write_bytes(run.state.read_bytes()[:1000])
    with pytest.raises(WrongCheckpoint, match=r"state\.pt.*\n.*--force"):
        restore(run, Recipe(), parts(), accelerator)


def test_a_training_resumes_from_its_state_bit_for_bit(tmp_path: Path) -> None:
    def steps(module: nn.Linear, optimiser: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimiser.zero_grad()
            module(torch.randn(4, 3)).square().sum().backward()
            optimiser.step()

    def begin() -> tuple[nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        return module, torch.optim.AdamW(module.parameters(), lr=0.1, amsgrad=True)

    unbroken, optimiser = begin()
    steps(unbroken, optimiser, 6)

    module, optimiser = begin()
    steps(module, optimiser, 3)
    state = {
        "step": 3,
        "model": module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
    }
    save_resume(tmp_path / "resume" / "state.pt", state)
    module, optimiser = begin()
    loaded = load_resume(tmp_path / "resume" / "state.pt")
    assert loaded is not None
    module.load_state_dict(loaded["model"])
    optimiser.load_state_dict(loaded["optimiser"])
    torch.set_rng_state(loaded["torch"])
    steps(module, optimiser, 3)
    assert torch.equal(module.weight, unbroken.weight)
    assert loaded["python"] == state["python"]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (np.float64(0.5), r"state\['losses'\]\[1\] is a float64"),
        (np.zeros(2), "is a ndarray"),
        (Path("x"), "is a PosixPath|is a WindowsPath"),
        (nn.Identity(), "is a Identity"),
    ],
)
def test_a_state_that_could_not_be_loaded_is_refused_while_the_run_is_there(
    tmp_path: Path, value: object, where: str
) -> None:
    with pytest.raises(TypeError, match=where):
        save_resume(tmp_path / "state.pt", {"losses": [0.5, value]})
    assert not (tmp_path / "state.pt").exists()


def test_no_state_is_none_and_a_damaged_one_is_said(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    assert load_resume(path) is None
    save_resume(path, {"w": torch.arange(1000.0)})
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"garbage", whole[:100] + b"\xff" * 50 + whole[150:]):
        path.write_bytes(damaged)
        with pytest.raises(WrongCheckpoint, match=r"cannot read the checkpoint .*\n.*--force"):
            load_resume(path)


def test_a_disk_that_is_too_small_is_said_before_the_first_step(tmp_path: Path, monkeypatch) -> None:
    run, learning = Run(tmp_path / "run"), nn.Linear(1000, 1000)
    refuse_without_room(run, learning)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 10**7))
    with pytest.raises(OutputFailed, match=r"needs some 17 MB .* and 10 MB are free"):
        refuse_without_room(run, learning)
