from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from adcommon.testing.waits import waits
from realnet.losses import feature_mse, segmentation_cross_entropy
from realnet.optimiser import make_optimiser, mixed_features, segmentation_loss, set_rate, update


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[bool]]:
    draw = torch.Generator().manual_seed(3)
    clean, masks = torch.randn(4, 3, 64, 64, generator=draw), torch.zeros(4, 64, 64)
    anomalous = [False, True, True, False]
    masks[1:3, 10:30, 20:40] = 1
    images = clean + 2 * masks[:, None]
    return clean, images, masks, anomalous


def test_normal_items_cost_no_pass_and_change_no_feature(make_model) -> None:
    model = make_model()
    clean, images, _, anomalous = batch()
    features, clean_features = mixed_features(model, model.backbone(clean), images, anomalous)
    for got, wanted in zip(features, model.features(images), strict=True):
        assert torch.allclose(got, wanted, atol=1e-5)
    for got, wanted in zip(clean_features, model.features(clean), strict=True):
        assert torch.allclose(got, wanted, atol=1e-5)
    features, clean_features = mixed_features(model, model.backbone(clean), images * 0, [False] * 4)
    assert all(torch.equal(*both) for both in zip(features, clean_features, strict=True))


def test_an_update_has_the_losses_and_gradients_of_the_plain_way(make_model, tiny) -> None:
    clean, images, masks, anomalous = batch()
    model, plain = make_model().double().train(), make_model().double().train()
    clean, images, masks = clean.double(), images.double(), masks.double()
    optimiser = make_optimiser(model, tiny)
    features, clean_features = mixed_features(model, model.backbone(clean), images, anomalous)
    losses = update(
        model.trainable(), features, clean_features, masks, optimiser, Accelerator(cpu=True), tiny
    )

    # All images through everything, then one step of an optimiser of its own.
    outputs = plain(images)
    expected = [
        segmentation_cross_entropy(outputs.logits, masks),
        feature_mse(outputs.rebuilt, plain.features(clean)),
    ]
    slow = torch.optim.Adam([value for value in plain.parameters() if value.requires_grad], lr=1e-4)
    sum(expected).backward()
    slow.step()
    assert torch.allclose(losses, torch.stack(expected), rtol=1e-9)
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        if ours.requires_grad:
            assert torch.allclose(ours, theirs, atol=1e-9), name


def test_a_step_never_waits_for_a_device(make_model, tiny) -> None:
    clean, images, masks, anomalous = batch()
    model = make_model().train()
    optimiser, network, maps = make_optimiser(model, tiny), model.trainable(), model.backbone(clean)
    with waits() as found:
        features, wanted = mixed_features(model, maps, images, anomalous)
        update(network, features, wanted, masks, optimiser, Accelerator(cpu=True), tiny)
    assert found == []


def test_losses_fall(make_model, tiny) -> None:
    clean, images, masks, anomalous = batch()
    recipe = replace(tiny, lr=1e-3)
    model = make_model().train()
    optimiser, network = make_optimiser(model, recipe), model.trainable()
    maps = model.backbone(clean)
    readings = []
    for _ in range(8):
        features, wanted = mixed_features(model, maps, images, anomalous)
        readings.append(update(network, features, wanted, masks, optimiser, Accelerator(cpu=True), recipe))
    assert (readings[-1] < readings[0]).all()


def test_weights_of_the_losses_decide_what_learns(make_model, tiny) -> None:
    clean, images, masks, anomalous = batch()
    recipe = replace(tiny, segmentation_weight=0.0)
    model = make_model().train()
    before = {name: value.clone() for name, value in model.named_parameters()}
    features, wanted = mixed_features(model, model.backbone(clean), images, anomalous)
    optimiser = make_optimiser(model, recipe)
    update(model.trainable(), features, wanted, masks, optimiser, Accelerator(cpu=True), recipe)
    changed = {
        name.partition(".")[0]
        for name, value in model.named_parameters()
        if not torch.equal(value, before[name])
    }
    assert changed == {"recon"}


def test_the_loss_of_the_map_is_the_recipes(tiny) -> None:
    logits, masks = torch.randn(2, 2, 8, 8), torch.ones(2, 8, 8)
    plain = segmentation_loss(logits, masks, tiny)
    focal = segmentation_loss(logits, masks, replace(tiny, segmentation_loss="focal", focal_gamma=0.0))
    assert float(focal) == pytest.approx(float(plain), rel=1e-3)
    halved = replace(tiny, segmentation_loss="focal", focal_gamma=0.0, focal_alpha=0.5)
    assert float(segmentation_loss(logits, masks, halved)) == pytest.approx(float(focal) / 2)


def test_adam_has_two_groups_without_frozen_values(make_model, tiny) -> None:
    model = make_model()
    groups = make_optimiser(model, replace(tiny, weight_decay=0.5)).param_groups
    assert [len(group["params"]) for group in groups] == [
        len(list(model.recon.parameters())),
        len(list(model.rrs.parameters())),
    ]
    assert [(group["lr"], group["betas"], group["weight_decay"]) for group in groups] == [
        (1e-4, (0.9, 0.999), 0.5)
    ] * 2


def test_the_rate_falls_at_its_share_of_the_steps(make_model, tiny) -> None:
    optimiser = make_optimiser(make_model(), tiny)
    falling = replace(tiny, lr=1e-3, lr_milestone=0.8, lr_factor=0.1)
    rates = []
    for step in range(10):
        set_rate(optimiser, falling, step, 10)
        rates.append({group["lr"] for group in optimiser.param_groups})
    assert rates == [{1e-3}] * 8 + [{1e-3 * 0.1}] * 2
    set_rate(optimiser, replace(tiny, lr=1e-3), 9, 10)
    assert {group["lr"] for group in optimiser.param_groups} == {1e-3}


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"channels_last": True}], ids=["bf16", "layout"])
def test_fast_ways_change_losses_by_rounding_only(make_model, tiny, change) -> None:
    clean, images, masks, anomalous = batch()
    losses = []
    for recipe in (tiny, replace(tiny, **change)):
        model = make_model(channels_last=recipe.channels_last).train()
        if recipe.channels_last:
            model = model.to(memory_format=torch.channels_last)
        features, wanted = mixed_features(model, model.backbone(clean), images, anomalous)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            network = model.trainable()
            losses.append(
                update(
                    network,
                    features,
                    wanted,
                    masks,
                    make_optimiser(model, recipe),
                    Accelerator(cpu=True),
                    recipe,
                )
            )
    assert torch.allclose(losses[0], losses[1], rtol=1e-2 if change.get("precision") else 1e-4)
