from dataclasses import replace

import pytest
import torch

from adcommon.errors import BadValue
from adcommon.models.backbones import map_channels
from realnet.model import fitted, parameter_counts
from realnet.network.reconstruction import SimpleReconstruction
from realnet.network.structure import check_planes, layers_of, parse_structure
from realnet.recipes import ARCHITECTURE_C, OWN, RECIPES, SMALL, Recipe


def test_only_reconstruction_and_decoder_learn_and_the_backbone_stays_in_eval_mode(make_model) -> None:
    model = make_model().train()
    learned = {name.partition(".")[0] for name, value in model.named_parameters() if value.requires_grad}
    assert learned == {"recon", "rrs"}
    assert not any(module.training for module in model.backbone.modules())
    assert model.rrs.training
    assert model.eval().rrs.training is False


def test_a_step_changes_no_frozen_value(make_model, images) -> None:
    model = make_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.Adam([value for value in model.parameters() if value.requires_grad])
    model(images).logits.square().mean().backward()
    optimiser.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in changed} == {"recon", "rrs"}
    assert "rrs.bn_idx.running_mean" in changed


def test_outputs_are_residuals_of_what_was_rebuilt(make_model, images) -> None:
    model = make_model().eval()
    outputs = model(images)
    assert outputs.logits.shape == (3, 2, 64, 64)
    assert [tuple(block.shape) for block in outputs.features] == [(3, 64, 16, 16), (3, 64, 8, 8)]
    for features, rebuilt, residual in zip(outputs.features, outputs.rebuilt, outputs.residuals, strict=True):
        assert torch.equal(residual, (features - rebuilt).square())
        assert not features.requires_grad
        assert rebuilt.requires_grad


def test_the_part_that_learns_shares_the_models_weights(make_model, images) -> None:
    model = make_model().eval()
    part = model.trainable().eval()
    assert torch.equal(part(model.features(images)).logits, model(images).logits)
    assert {id(value) for value in part.parameters()} == {
        id(value) for value in model.parameters() if value.requires_grad
    }


def test_layers_of_one_block_share_its_grid(make_model, images) -> None:
    model = make_model(structure=("layer1:64+layer2:64@4", "layer3:32+layer4:32@16"))
    assert [tuple(block.shape) for block in model.features(images)] == [(3, 128, 16, 16), (3, 64, 4, 4)]
    assert list(model.afs.indexes) == [
        *("block1_layer1", "block1_layer2", "block2_layer3", "block2_layer4"),
    ]


@pytest.mark.parametrize(
    ("backbone", "structure"),
    [
        ("tf_efficientnet_lite0.in1k", ("layer2:24+layer3:40@8",)),
        ("efficientnet_b4.ra2_in1k", ("layer2:32+layer3:32@4",)),
        ("mobilenetv3_small_100.lamb_in1k", ("layer3:24+layer4:40@8",)),
    ],
)
def test_layers_of_other_backbones_are_numbered_from_stride_2(make_model, images, backbone, structure):
    model = make_model(backbone=backbone, structure=structure)
    assert model(images).logits.shape == (3, 2, 64, 64)


def test_images_may_be_larger_than_in_the_recipe_and_no_square(make_model) -> None:
    model = make_model().eval()
    assert model(torch.randn(1, 3, 64, 128)).logits.shape == (1, 2, 64, 128)


def test_too_many_channels_are_refused(make_model) -> None:
    with pytest.raises(BadValue, match="keeps 128 channels of layer1, which has 64"):
        make_model(structure=("layer1:128@4",))


def test_kinds_of_reconstruction_networks(make_model, images) -> None:
    model = make_model(reconstruction="simple")
    assert all(isinstance(network, SimpleReconstruction) for network in model.recon.values())
    assert model(images).logits.shape == (3, 2, 64, 64)


def test_parameters_are_counted_by_part(make_model) -> None:
    counts = parameter_counts(make_model())
    assert list(counts) == ["backbone", "block1_recon", "block2_recon", "rrs"]
    assert counts["block1_recon"] == counts["block2_recon"]


def test_the_authors_second_structure_has_two_equal_networks(make_model) -> None:
    with torch.device("meta"):
        model = make_model(
            backbone="wide_resnet50_2.racm_in1k",
            structure=ARCHITECTURE_C,
            channel_mult=(1, 2, 4),
            image_size=256,
        )
    counts = parameter_counts(model)
    assert counts["block1_recon"] == counts["block2_recon"] > 1e8


@pytest.mark.parametrize(
    "backbone",
    [
        *("tf_efficientnet_lite0.in1k", "resnet18.tv_in1k", "convnext_tiny.in12k_ft_in1k"),
        *("mobilenetv3_small_100.lamb_in1k", "regnety_004.pycls_in1k", "wide_resnet101_2.tv_in1k"),
    ],
)
@pytest.mark.parametrize("base", [OWN, SMALL])
def test_blocks_that_nobody_chose_fit_the_backbone(backbone: str, base: Recipe) -> None:
    recipe = fitted(replace(base, backbone=backbone))
    blocks, channels = parse_structure(recipe.structure), map_channels(backbone)
    strides = layers_of(blocks, backbone)
    check_planes(blocks, {layer: channels[stride] for layer, stride in strides.items()}, backbone)
    assert max(count for _, count in recipe.modes()) <= sum(block.channels for block in blocks)
    assert fitted(recipe) == recipe


def test_blocks_that_fit_or_that_somebody_chose_stay() -> None:
    assert all(fitted(recipe) is recipe for recipe in RECIPES.values())
    named = replace(SMALL, backbone="resnet18.tv_in1k")
    assert fitted(named, ["structure"]) is named
    chosen = replace(OWN, backbone="tf_efficientnet_lite0.in1k", structure=("layer1:256@4", "layer2:512@8"))
    assert fitted(chosen) is chosen


def test_blocks_too_coarse_for_the_images_are_left_out() -> None:
    recipe = replace(SMALL, backbone="resnet18.tv_in1k", image_size=96)
    assert [block.stride for block in parse_structure(fitted(recipe).structure)] == [4, 8, 16]


def test_an_impossible_choice_is_answered_with_a_possible_one(make_model) -> None:
    with pytest.raises(
        BadValue, match=r"has 16 in .* --structure layer2:24\+layer3:40@8 layer4:64@16 .*--rrs-modes"
    ):
        make_model(backbone="tf_efficientnet_lite0.in1k", structure=("layer1:256@4",))
