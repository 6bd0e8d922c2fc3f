from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from adcommon.training.resume import restore, save
from adcommon.training.run import Run
from recontrast.model import build
from recontrast.optimiser import make_optimiser, update
from recontrast.recipes import MVTEC_STABLE
from recontrast.resume import parts

RECIPE = replace(MVTEC_STABLE, backbone="resnet18", image_size=64, iterations=10)


def fresh():
    model = build(RECIPE, weights="random")
    optimiser, schedule = make_optimiser(model, RECIPE)
    accelerator = Accelerator(cpu=True)
    return model, accelerator.prepare_optimizer(optimiser, device_placement=False), schedule, accelerator


def test_after_a_restore_the_next_step_is_the_same_partial_norm_included(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model, optimiser, schedule, accelerator = fresh()
    update(model, images, optimiser, accelerator, alpha=-3.0)
    run.log(1, {"loss": 1.0})
    save(run, 1, RECIPE, parts(model, optimiser, schedule), accelerator)
    run.log(2, {"loss": 2.0})
    next_loss = update(model, images, optimiser, accelerator, alpha=-3.0)
    after = {name: value.clone() for name, value in model.state_dict().items()}

    torch.manual_seed(1)
    other, optimiser, schedule, accelerator = fresh()
    assert restore(run, RECIPE, parts(other, optimiser, schedule), accelerator) == 1
    assert update(other, images, optimiser, accelerator, alpha=-3.0) == next_loss
    assert all(torch.equal(value, after[name]) for name, value in other.state_dict().items())
    assert run.metrics.read_text().splitlines() == ["step,loss", "1,1.0"]
