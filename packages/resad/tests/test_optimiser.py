from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from adcommon.testing.waits import waits
from adcommon.training.resume import restore, save
from adcommon.training.run import Run
from resad.losses import EpochLosses, RunningBoundaries
from resad.optimiser import Optimisers, level_mask, untrained_levels, update
from resad.recipes import Recipe


def run(model, residuals, recipe: Recipe, *, anomalous: bool = True, steps: int = 1):
    """Steps of stage 2 on one batch; the optimisers and the last losses."""
    masks = [torch.zeros(3, maps.shape[2], maps.shape[3], dtype=torch.bool) for maps in residuals]
    if anomalous:
        for mask in masks:
            mask[1, :2, :2] = True
    optimisers, boundaries = Optimisers(model, recipe), RunningBoundaries(2)
    model.train()
    for _ in range(steps):
        losses = update(
            model, residuals, masks, optimisers, boundaries, recipe, Accelerator(cpu=True), second_stage=True
        )
    return losses, boundaries


def changed(model, before) -> set[str]:
    """Parts of which some entry moved."""
    after = model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    return {
        ".".join(name.split(".")[:2]) for name in moved if "running" not in name and "batches" not in name
    }


def test_one_step_moves_all_parts_but_rotations(make_model, residuals, recipe: Recipe) -> None:
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses, boundaries = run(model, residuals, replace(recipe, flow_batch=16))
    assert changed(model, before) >= {"vq_ops.vq1", "constraintor.l2_proj", "estimators.0", "estimators.1"}
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if "w_perm" in name)
    assert len(losses.flows) == 3 * 64 // 16 + 3 * 16 // 16
    assert all(value != 0 for value in boundaries.values)


def test_a_level_without_a_whole_block_keeps_its_random_flow(make_model, residuals, recipe: Recipe) -> None:
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    big = replace(recipe, flow_batch=100)
    run(model, residuals, big)
    moved = changed(model, before)
    assert "estimators.0" in moved
    assert "estimators.1" not in moved
    assert untrained_levels([64, 16], replace(big, batch_size=3)) == [2]
    assert untrained_levels([64, 16], replace(recipe, flow_batch=48, batch_size=3)) == []


def test_zeroed_gradients_let_a_flow_move_while_another_is_trained(
    make_model, residuals, recipe: Recipe
) -> None:
    ends = []
    for legacy in (False, True):
        model = make_model()
        run(model, residuals, replace(recipe, flow_batch=16, legacy_zero_grad=legacy), steps=2)
        ends.append(model.state_dict()["estimators.0.module_list.0.global_offset"].clone())
    assert not torch.equal(*ends)


def test_a_batch_without_normal_rows_changes_no_boundary_and_no_code(
    make_model, residuals, recipe: Recipe
) -> None:
    model = make_model()
    masks = [torch.ones(3, maps.shape[2], maps.shape[3], dtype=torch.bool) for maps in residuals]
    boundaries = RunningBoundaries(2)
    optimisers = Optimisers(model, replace(recipe, weight_decay=0.0))
    losses = update(
        model, residuals, masks, optimisers, boundaries, recipe, Accelerator(cpu=True), second_stage=True
    )
    assert boundaries.values == [0.0, 0.0]
    assert losses.quantiser == 0
    assert all(torch.isfinite(loss) for loss in losses.kinds()["items"])


def test_training_lowers_the_losses(make_model, residuals, recipe: Recipe) -> None:
    fast = replace(recipe, lr=1e-2, flow_batch=48)
    first, _ = run(make_model(), residuals, fast)
    last, _ = run(make_model(), residuals, fast, steps=40)
    assert last.quantiser < first.quantiser
    assert last.constraint_total < first.constraint_total
    assert sum(last.flows) < sum(first.flows)


def test_after_a_restore_the_next_step_is_the_same_to_the_bit(
    make_model, residuals, recipe: Recipe, tmp_path: Path
) -> None:
    recipe = replace(recipe, flow_batch=16, lr=1e-2)
    folder, accelerator = Run(tmp_path / "run"), Accelerator(cpu=True)
    masks = [torch.zeros(3, maps.shape[2], maps.shape[3], dtype=torch.bool) for maps in residuals]

    def fresh() -> dict:
        model = make_model()
        optimisers, boundaries = Optimisers(model, recipe), RunningBoundaries(2)
        return {"model": model, "optimisers": optimisers, "boundaries": boundaries, "losses": EpochLosses()}

    def step(parts: dict) -> list[torch.Tensor]:
        model, optimisers, boundaries, losses = parts.values()
        done = update(model, residuals, masks, optimisers, boundaries, recipe, accelerator, second_stage=True)
        losses.add(done)
        losses.take()
        return done.kinds()["items"]

    first = fresh()
    step(first)
    first["optimisers"].end_epoch()
    save(folder, 1, recipe, first, accelerator)
    following = step(first)
    torch.manual_seed(99)
    second = fresh()
    assert restore(folder, recipe, second, accelerator) == 1
    assert all(torch.equal(a, b) for a, b in zip(following, step(second), strict=True))
    state = first["model"].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in second["model"].state_dict().items())
    assert second["boundaries"].values == first["boundaries"].values
    assert second["losses"].sums == first["losses"].sums


@pytest.mark.parametrize("changed", [{}, {"flow_arch": "flow_model", "backbone": "imagebind"}])
def test_a_step_never_waits_for_a_device(
    make_model, residuals, recipe: Recipe, changed: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recipe, "__post_init__", lambda _: None)  # ImageBind's losses on small levels
    model = make_model()
    recipe = replace(recipe, flow_batch=16, **changed)
    with waits() as found:
        run(model, residuals, recipe, steps=2)
    assert found == []


def test_half_precision_is_of_constraintors_and_subnets_and_losses_are_not(
    make_model, residuals, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator, found = Accelerator(cpu=True), []
    recipe = replace(recipe, flow_batch=16)
    masks = [torch.zeros(3, maps.shape[2], maps.shape[3], dtype=torch.bool) for maps in residuals]
    for _ in ("fp32", "bf16"):
        model = make_model()
        done = update(
            model, residuals, masks, Optimisers(model, recipe), RunningBoundaries(2), recipe, accelerator,
            second_stage=True,
        )  # fmt: skip
        found.append(torch.stack(done.kinds()["items"]))
        monkeypatch.setattr(accelerator, "autocast", lambda: torch.autocast("cpu", torch.bfloat16))
    assert found[1].dtype == torch.float32
    assert not torch.equal(*found)
    torch.testing.assert_close(found[1], found[0], rtol=0.05, atol=0.01)


def test_gradients_of_fp16_are_scaled_and_an_overflow_is_passed_over(make_model, recipe: Recipe) -> None:
    accelerator, weights = Accelerator(cpu=True), []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        accelerator.scaler = scaler
        model = make_model()
        optimisers = Optimisers(model, recipe)
        weight = model.vq_ops[0].embedding.weight
        optimisers.step("vq", weight.square().sum(), accelerator)
        weights.append(weight.detach().clone())
    torch.testing.assert_close(*weights)
    optimisers.step("vq", weight.sum() * torch.inf, accelerator)
    assert torch.equal(weight, weights[1])
    assert accelerator.scaler.get_scale() == 512.0


def test_schedules_fall_to_a_tenth_after_each_milestone(make_model, recipe: Recipe) -> None:
    optimisers = Optimisers(make_model(), replace(recipe, lr=1.0, lr_milestones=(1, 2)))
    rates = []
    for _ in range(3):
        rates.append(optimisers.optimisers["flows"].param_groups[0]["lr"])
        for optimiser in optimisers.optimisers.values():
            optimiser.step()
        optimisers.end_epoch()
    assert rates == pytest.approx([1.0, 0.1, 0.01])


def test_level_masks_take_the_nearest_pixel_or_a_third_of_the_cell() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 0, 0] = mask[0, 5, 5] = True
    assert level_mask(mask, (2, 2), imagebind=False)[0].tolist() == [[True, False], [False, False]]
    mask[0, 1:3, 1:3] = True
    assert level_mask(mask, (2, 2), imagebind=True)[0].tolist() == [[True, False], [False, False]]
