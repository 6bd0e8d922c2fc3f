from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from adcommon.errors import BadValue
from recontrast.losses import mined_cosine, recontrast_loss
from recontrast.model import ReContrast, WithPartialNorm, build, distance_maps
from recontrast.network.partial_norm import PartialNorm
from recontrast.recipes import MVTEC, MVTEC_MULTICLASS, MVTEC_STABLE

Make = Callable[..., ReContrast]


def flat(outputs: object) -> list[Tensor]:
    return [features for pair in outputs.pairs() for features in pair]


def assert_same(got: object, expected: object, **tolerance: float) -> None:
    for a, b in zip(flat(got), flat(expected), strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def train_step(model: ReContrast, images: Tensor) -> None:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=1e-3)
    recontrast_loss(model.train()(images), alpha=-3.0).backward()
    optimiser.step()


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("encoder_norm_train", [False, True])
def test_modes_survive_eval_and_train(make_model: Make, encoder_norm_train: bool) -> None:
    model = make_model(encoder_norm_train=encoder_norm_train)
    for _ in range(2):
        assert model.bottleneck.training
        assert model.decoder.training
        assert model.encoder.bn1.training is encoder_norm_train
        assert not model.encoder_freeze.bn1.training
        model.eval()
        assert not any(part.training for part in model.children())
        model.train()


@pytest.mark.parametrize("options", [{}, {"encoder_norm_train": True, "partial_norm": 5e-4}])
def test_a_step_changes_what_learns_and_nothing_else(make_model: Make, images: Tensor, options: dict) -> None:
    model = make_model(**options)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_step(model, images)
    touched = changed(before, model.state_dict())
    frozen = {
        name for name in before if name.startswith(("encoder_freeze.", "bottleneck.conv4", "bottleneck.bn4"))
    }
    assert not touched & frozen
    statistics = {name for name in before if name.startswith("encoder.") and "running" in name}
    assert touched & statistics == (statistics if options else set())
    # Batches are not counted by a norm in eval mode, nor by PartialNorm.
    counters = {name for name in before if name.startswith("encoder.") and name.endswith("tracked")}
    assert touched == before.keys() - frozen - counters - (set() if options else statistics)


def test_the_pairs_are_crossed(make_model: Make, images: Tensor) -> None:
    """Targets from one encoder, reconstructions from the other."""
    model = make_model("resnet18").eval()
    before = model(images)
    with torch.no_grad():
        model.encoder.layer3[0].conv1.weight.mul_(2)
    after = model(images)
    for same in ("frozen_features", "from_frozen"):
        assert_levels(getattr(after, same), getattr(before, same), equal=True)
    assert_levels(after.trained_features[2:], before.trained_features[2:], equal=False)
    assert_levels(after.from_trained, before.from_trained, equal=False)


def assert_levels(got: list[Tensor], expected: list[Tensor], *, equal: bool) -> None:
    assert all(torch.allclose(a, b) is equal for a, b in zip(got, expected, strict=True))


def test_both_encoders_share_the_batch_statistics(make_model: Make, images: Tensor) -> None:
    """One joint pass: what the decoder makes of one encoder depends on the other while training."""
    model = make_model("resnet18")
    before = model(images)
    with torch.no_grad():
        model.encoder.layer3[0].conv1.weight.mul_(2)
    assert_levels(model(images).from_frozen, before.from_frozen, equal=False)


def test_trained_features_get_gradients_as_inputs_and_not_as_targets(
    make_model: Make, images: Tensor
) -> None:
    model, gradients = make_model().eval(), []
    for parts in (("frozen_features", "from_trained"), ("trained_features", "from_frozen")):
        outputs = model(images)
        outputs.trained_features[0].retain_grad()
        mined_cosine(*(getattr(outputs, part) for part in parts), -3.0).backward()
        gradients.append(outputs.trained_features[0].grad)
    assert float(gradients[0].norm()) > 0
    assert float(gradients[1].norm()) == 0


def test_cached_frozen_features_give_the_same(make_model: Make, images: Tensor) -> None:
    model = make_model().eval()
    cached = model.frozen_features(images)
    assert not any(level.requires_grad for level in cached)
    assert_same(model(images, cached), model(images))


@pytest.mark.parametrize("options", [{}, {"encoder_norm_train": True, "partial_norm": 5e-4}])
def test_channels_last_equals_contiguous(make_model: Make, images: Tensor, options: dict) -> None:
    contiguous, last = make_model(**options), make_model(**options).to(memory_format=torch.channels_last)
    assert_same(last(images.to(memory_format=torch.channels_last)), contiguous(images), rtol=1e-3, atol=1e-4)


def test_autocast_gives_float32_outputs_near_the_plain_ones(make_model: Make, images: Tensor) -> None:
    model = make_model().eval()
    with torch.no_grad():
        plain = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            cast = model(images, model.frozen_features(images))
    assert {features.dtype for features in flat(cast)} == {torch.float32}
    for got, expected in zip(distance_maps(cast), distance_maps(plain), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0.03)  # bfloat16 keeps 8 bits


@pytest.mark.parametrize(
    "options", [{}, {"encoder_norm_train": True, "partial_norm": 5e-4, "encoder_eps": 1e-6}]
)
def test_any_backbone_with_three_strides_works(make_model: Make, images: Tensor, options: dict) -> None:
    model = make_model("tf_efficientnet_lite0", **options)
    widths = [level.shape[1] for level in model(images).from_frozen]
    assert widths == model.encoder.feature_info.channels() == [24, 40, 112]
    train_step(model, images)
    maps = distance_maps(model.eval()(images))
    assert [tuple(level.shape) for level in maps] == [(2, side, side) for side in (16, 8, 4)] * 2


def test_epsilon_is_lowered_for_the_trained_encoder_only(make_model: Make) -> None:
    model = make_model(partial_norm=5e-4, encoder_eps=1e-6)
    epsilons = {layer.eps for layer in model.encoder.modules() if isinstance(layer, PartialNorm)}
    frozen = {layer.eps for layer in model.encoder_freeze.modules() if isinstance(layer, nn.BatchNorm2d)}
    assert (epsilons, frozen) == ({1e-6}, {1e-5})


def test_sides_that_are_no_multiple_of_32_are_refused(make_model: Make) -> None:
    with pytest.raises(BadValue, match=r"images of 64x48 pixels; .* multiples of 32"):
        make_model()(torch.zeros(1, 3, 64, 48))


def test_identical_features_give_zero_distance(make_model: Make, images: Tensor) -> None:
    outputs = make_model().eval()(images)
    perfect = replace(outputs, from_trained=outputs.frozen_features, from_frozen=outputs.trained_features)
    for level in distance_maps(perfect):
        torch.testing.assert_close(level, torch.zeros_like(level), atol=1e-6, rtol=0)


def test_resuming_restores_what_partial_norm_remembers(make_model: Make, images: Tensor) -> None:
    options = {"encoder_norm_train": True, "partial_norm": 5e-4}
    trained, resumed = make_model(**options), make_model(**options)
    train_step(trained, images)
    resumed.load_state_dict(trained.state_dict())
    state = WithPartialNorm(trained).state_dict()
    assert state["partial_norm"]
    WithPartialNorm(resumed).load_state_dict(state)
    for name, variance in WithPartialNorm(resumed).state_dict()["partial_norm"].items():
        assert torch.equal(variance, state["partial_norm"][name])
    assert_same(resumed(images), trained(images))
    assert WithPartialNorm(make_model()).state_dict()["partial_norm"] == {}


def test_a_recipe_decides_the_model(images: Tensor) -> None:
    small = "resnet18.tv_in1k"
    grid = build(replace(MVTEC, backbone=small), weights=None, category="grid")
    bottle = build(replace(MVTEC, backbone=small), weights=None, category="bottle")
    assert (grid.encoder_norm_train, bottle.encoder_norm_train) == (False, True)
    stable = build(replace(MVTEC_STABLE, backbone=small), weights=None)
    assert isinstance(stable.encoder.bn1, PartialNorm)
    assert stable.encoder.bn1.eps == 1e-6
    unified = build(replace(MVTEC_MULTICLASS, backbone=small), weights=None)
    assert isinstance(unified.decoder.layer1[0].act, nn.GELU)


def test_scores_do_not_depend_on_the_batch(make_model: Make, images: Tensor) -> None:
    model = make_model(encoder_norm_train=True).eval()
    together = distance_maps(model(images))
    for i in range(2):
        for alone, both in zip(distance_maps(model(images[i : i + 1])), together, strict=True):
            torch.testing.assert_close(alone[0], both[i])


def test_an_exported_model_takes_any_batch(make_model: Make) -> None:
    class Maps(nn.Module):
        def __init__(self, model: ReContrast) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> list[Tensor]:
            return distance_maps(self.model(images))

    maps = Maps(make_model().eval().requires_grad_(False))
    free = ({0: torch.export.Dim("batch", min=1, max=16)},)
    exported = torch.export.export(maps, (torch.randn(2, 3, 32, 32),), dynamic_shapes=free).module()
    images = torch.randn(3, 3, 32, 32)
    for got, expected in zip(exported(images), maps(images), strict=True):
        torch.testing.assert_close(got, expected)
