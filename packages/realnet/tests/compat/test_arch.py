import pytest

from adcommon.errors import BadValue
from realnet.compat.arch import TAGS, leaves, network_values
from realnet.recipes import MVTEC


def test_values_are_found_wherever_they_lie() -> None:
    content = {
        "net": [
            {"name": "backbone", "kwargs": {"model": "models.backbones.resnet34", "outlayers": ["layer1"]}},
            {"name": "recon", "kwargs": {"num_res_blocks": 1, "channel_mult": [1, 2]}},
            {"name": "rrs", "kwargs": {"modes": ["mean", "max"], "mode_numbers": [3, 4]}},
        ],
        "structure": [
            {"name": "block1", "stride": 4, "layers": [{"idx": "layer1", "planes": 64}]},
            {"name": "block2", "stride": 8, "layers": [{"idx": f"layer{n}", "planes": n} for n in (2, 3)]},
        ],
    }
    assert network_values(content, where="here") == {
        "backbone": "resnet34.bt_in1k",
        "res_blocks": 1,
        "channel_mult": (1, 2),
        "rrs_modes": ("mean:3", "max:4"),
        "structure": ("layer1:64@4", "layer2:2+layer3:3@8"),
    }


def test_what_is_not_said_is_left_out() -> None:
    assert network_values({}, where="here") == {}
    assert network_values([{"name": "afs"}], where="here") == {}


def test_the_papers_backbone_has_the_weights_of_the_reference() -> None:
    assert TAGS["wide_resnet50_2"] == MVTEC.backbone


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"structure": ["layer1"]}, "cannot read the block 'layer1'"),
        ({"structure": [{"stride": 4}]}, r"\('layers'\); expected stride and layers"),
        ({"modes": ["max"], "mode_numbers": [1, 2]}, "expected one number per mode"),
    ],
)
def test_other_forms_are_refused(content, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        network_values(content, where="here")


def test_leaves_have_their_whole_path() -> None:
    found = dict(leaves({"a": {"b": 1, "c": [1, 2]}, "d": [{"e": 2}]}))
    assert found == {("a", "b"): 1, ("a", "c"): [1, 2], ("d", "0", "e"): 2}
