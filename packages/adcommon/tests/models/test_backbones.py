import re

import pytest
import timm
import torch
import torchvision
from torch import nn

from adcommon.errors import BadValue, UnknownName, WrongCheckpoint
from adcommon.models.backbones import FeaturePyramid, create_trunk, normalisation

LITE0 = "tf_efficientnet_lite0.in1k"


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def resnet():
    return torchvision.models.resnet18(weights=None).eval()


@pytest.fixture
def resnet_file(tmp_path, resnet):
    torch.save(resnet.state_dict(), tmp_path / "resnet18.pth")
    return str(tmp_path / "resnet18.pth")


def all_equal(one, other):
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_resnet_trunk_is_torchvisions_resnet_without_its_top(resnet, resnet_file, images):
    trunk = create_trunk("resnet18", resnet_file).eval()
    below = {name for name in resnet.state_dict() if not name.startswith(("layer4.", "fc."))}
    assert trunk.state_dict().keys() == below
    with torch.no_grad():
        x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images))))
        expected = [x := layer(x) for layer in (resnet.layer1, resnet.layer2, resnet.layer3)]
        assert all_equal(trunk(images), expected)


@pytest.mark.parametrize("strides", [(2, 4, 8, 16), (4, 8, 16), (8,), (8, 32)])
def test_the_embedded_trunk_gives_the_whole_networks_maps_and_keeps_nothing_above(images, strides):
    trunk = create_trunk(LITE0, strides=strides).eval()
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    missing, unexpected = whole.load_state_dict(trunk.state_dict(), strict=False)
    assert unexpected == []
    last = {2: 0, 4: 1, 8: 2, 16: 4, 32: 6}[strides[-1]]
    assert {name.split(".")[1] for name in missing if name.startswith("blocks.")} == set(
        "0123456"[last + 1 :]
    )
    with torch.no_grad():
        maps = whole.forward_intermediates(images, intermediates_only=True)
        assert all_equal(trunk(images), [map_ for map_ in maps if 64 // map_.shape[-1] in strides])


def test_a_network_whose_stages_timm_lifts_gets_its_weights_too(tmp_path, images):
    whole = timm.create_model("convnext_atto", pretrained=False).eval()
    torch.save(whole.state_dict(), tmp_path / "a.pth")
    trunk = create_trunk("convnext_atto", str(tmp_path / "a.pth")).eval()
    with torch.no_grad():
        maps = whole.forward_intermediates(images, intermediates_only=True)
        assert all_equal(trunk(images), maps[:3])


def test_the_trunks_of_the_papers_have_the_papers_channels():
    expected = {
        ("wide_resnet50_2.tv_in1k", (4, 8, 16)): (256, 512, 1024),
        ("tf_efficientnet_b4.aa_in1k", (2, 4, 8, 16)): (24, 32, 56, 160),
    }
    for (tag, strides), channels in expected.items():
        pyramid = FeaturePyramid(tag, "random", strides=strides)
        assert (pyramid.channels, pyramid.strides, pyramid.tag) == (channels, strides, tag)
        assert pyramid.is_random


def test_a_pyramid_never_learns(images):
    pyramid = FeaturePyramid(LITE0)
    head = nn.Conv2d(pyramid.channels[0], 1, 1)
    both = nn.ModuleList([pyramid, head])
    before = {name: tensor.clone() for name, tensor in pyramid.state_dict().items()}
    alone = pyramid(images)

    both.train()
    assert head.training
    assert not any(module.training for module in pyramid.modules())
    optimiser = torch.optim.SGD(
        [parameter for parameter in both.parameters() if parameter.requires_grad], lr=1.0
    )
    maps = pyramid(images.clone().requires_grad_())
    assert not any(level.requires_grad for level in maps)
    head(maps[0]).mean().backward()
    optimiser.step()

    assert all(torch.equal(tensor, before[name]) for name, tensor in pyramid.state_dict().items())
    assert all_equal(pyramid(images), alone)
    assert not pyramid.is_random


def test_a_trunk_learns_in_both_modes(images):
    trunk = create_trunk(LITE0)
    mean = trunk.bn1.running_mean.clone()
    sum(level.mean() for level in trunk.train()(images)).backward()
    assert not torch.equal(trunk.bn1.running_mean, mean)
    assert all(parameter.grad is not None for parameter in trunk.parameters())


def test_channels_last_changes_maps_by_rounding_only(images):
    plain = FeaturePyramid(LITE0)(images)
    fast = FeaturePyramid(LITE0, channels_last=True)(images)
    for a, b in zip(plain, fast, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)  # float32, other order of sums


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone(caplog):
    before = torch.get_rng_state()
    one = create_trunk("resnet18", "random").state_dict()
    torch.manual_seed(1)
    other = create_trunk("resnet18", "random").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert caplog.text.count("RANDOM BACKBONE WEIGHTS") == 2
    torch.set_rng_state(before)
    create_trunk(LITE0)
    assert torch.equal(torch.get_rng_state(), before)


def load_changed(folder, state):
    torch.save(state, folder / "changed.pth")
    return create_trunk("resnet18", str(folder / "changed.pth"))


def test_layers_above_the_last_stride_and_old_counters_may_be_missing(tmp_path, resnet):
    state = {
        name: tensor
        for name, tensor in resnet.state_dict().items()
        if not name.startswith(("layer4.", "fc.")) and not name.endswith("num_batches_tracked")
    }
    trunk = load_changed(tmp_path, state)
    assert all(torch.equal(trunk.state_dict()[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layer3.1.bn2.running_var"), r"missing: layer3\.1\.bn2\.running_var$"),
        (lambda state: state.update({"layer9.x": torch.ones(1)}), r"unexpected: layer9\.x$"),
        (lambda state: state.update({"conv1.weight": torch.ones(1)}), r"wrong shape: conv1\.weight$"),
    ],
    ids=["missing", "unexpected", "wrong shape"],
)
def test_weights_of_another_network_are_refused_entry_by_entry(tmp_path, resnet, change, message):
    state = dict(resnet.state_dict())
    change(state)
    with pytest.raises(WrongCheckpoint, match=message):
        load_changed(tmp_path, state)


@pytest.mark.parametrize(
    ("tag", "strides", "message"),
    [
        (LITE0, (4, 8, 64), "gives maps of strides 2, 4, 8, 16, 32; asked for 4, 8, 64"),
        ("convnext_atto", (2, 4), "gives maps of strides 4, 8, 16, 32; asked for 2, 4"),
        (
            "vit_tiny_patch16_224",
            (16,),
            "a transformer, whose maps all have stride 16; .* such as --backbone",
        ),
        ("swin_tiny_patch4_window7_224", (4, 8), "puts channels last"),
        (LITE0, (8, 4), re.escape("strides are (8, 4); expected rising numbers")),
        (LITE0, (), re.escape("strides are (); expected rising numbers")),
    ],
)
def test_strides_a_backbone_has_not_are_refused(tag, strides, message):
    with pytest.raises(BadValue, match=message):
        create_trunk(tag, "random", strides=strides)


def test_a_bare_name_is_refused_where_the_tag_chooses_the_weights():
    with pytest.raises(BadValue, match=r"wide_resnet50_2\.tv_in1k"):
        FeaturePyramid("wide_resnet50_2")


def test_images_are_normalised_as_the_weights_were_trained():
    assert normalisation(LITE0) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert normalisation("wide_resnet50_2.tv_in1k") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert normalisation("resnet18") == normalisation("resnet18.tv_in1k")
    with pytest.raises(UnknownName, match="resnet18"):
        normalisation("resnet-18")
