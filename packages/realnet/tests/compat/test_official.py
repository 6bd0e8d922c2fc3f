import pickle
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from adcommon.errors import BadValue, UserError, WrongCheckpoint
from adcommon.testing.alterations import sample
from realnet.checkpoint import load_detector
from realnet.compat.official import arch_of, fill, load_checkpoint, save_checkpoint, to_official
from realnet.network.structure import parse_structure
from realnet.recipes import MVTEC

SMALL = replace(
    MVTEC,
    backbone="resnet18.tv_in1k",
    structure=("layer1:64+layer2:64@4", "layer3:64@16"),
    afs_batches=3,
    res_blocks=1,
    rrs_modes=("mean:8", "max:16"),
    rrs_layers=1,
)


def model_of(make_model, recipe=SMALL):
    fields = (
        "backbone",
        "structure",
        "res_blocks",
        "channel_mult",
        "rrs_modes",
        "rrs_layers",
        "channels_last",
    )
    return make_model(**{name: getattr(recipe, name) for name in fields})


def test_a_model_survives_the_authors_file(make_model, tmp_path) -> None:
    model, path = model_of(make_model), tmp_path / "ckpt_best.pth.tar"
    save_checkpoint(path, model, SMALL, epoch=3, best_metric=0.75)
    checkpoint = load_checkpoint(path)
    assert (checkpoint.epoch, checkpoint.best_metric) == (3, 0.75)
    assert checkpoint.recipe == SMALL
    again = checkpoint.model().state_dict()
    assert again.keys() == model.state_dict().keys()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    assert load_detector(path).preprocess.size == 256


@pytest.mark.parametrize(
    "count", [4, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_no_value_of_a_file_is_believed(make_model, tmp_path, count: int) -> None:
    path = tmp_path / "ckpt_best.pth.tar"
    save_checkpoint(path, model_of(make_model), SMALL)
    content = torch.load(path)
    tensors = content.pop("state_dict")
    for _, changed in sample(content, count):
        torch.save({"state_dict": tensors, **changed}, path)
        with suppress(UserError):
            load_checkpoint(path).model("random")


def test_names_are_the_authors(make_model) -> None:
    names = to_official(model_of(make_model)).keys()
    assert {name.partition(".")[0] for name in names} == {"backbone", "afs", "recon", "rrs"}
    for name in (
        "backbone.feature_extractor.layer3.1.conv2.weight",
        "afs.indexes.block1_layer2",
        "recon.block2_recon.input_blocks.0.weight",
        "rrs.decoder1.0._layers.0._block.1.weight",
    ):
        assert name in names


def test_files_of_several_processes_and_configuration_objects_load(make_model, tmp_path) -> None:
    model = model_of(make_model)
    content = {
        "epoch": 1,
        "arch": [OrderedDict(part) for part in arch_of(SMALL)],
        "state_dict": {f"module.{name}": value for name, value in to_official(model).items()},
        "best_metric": 0.5,
    }
    torch.save(content, tmp_path / "ckpt.pth.tar")
    checkpoint = load_checkpoint(tmp_path / "ckpt.pth.tar")
    assert checkpoint.recipe == SMALL
    assert torch.equal(checkpoint.model().rrs.decoder3[2].weight, model.rrs.decoder3[2].weight)


def test_a_file_without_backbone_is_filled_up(make_model, tmp_path) -> None:
    model, path = model_of(make_model), tmp_path / "ckpt.pth.tar"
    save_checkpoint(path, model, SMALL)
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {k: v for k, v in content["state_dict"].items() if not k.startswith("backbone.")}
    torch.save(content, path)
    filled = load_checkpoint(path).model(weights="random")  # the test's models have the same random weights
    assert all(torch.equal(value, filled.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("rrs.decoder3.2.bias"), r"missing: rrs\.decoder3\.2\.bias"),
        (lambda state: state.pop("afs.indexes.block1_layer1"), r"missing: afs\.indexes\.block1_layer1"),
        (lambda state: state.update({"recon.x": torch.zeros(1)}), r"unexpected: recon\.x"),
        (lambda state: state.update({"neck.x": torch.zeros(1)}), "belong to no part: neck.x"),
        (
            lambda state: state.pop("backbone.feature_extractor.layer1.0.conv1.weight"),
            r"missing: layer1\.0\.conv1\.weight",
        ),
        (
            lambda state: state.update({"rrs.decoder3.2.bias": torch.zeros(3)}),
            r"shape: rrs\.decoder3\.2\.bias is \(3,\), expected \(2,\)",
        ),
    ],
)
def test_whatever_does_not_fit_is_named(make_model, change, message) -> None:
    model = model_of(make_model)
    state = to_official(model)
    change(state)
    with pytest.raises(WrongCheckpoint, match=message):
        fill(model, state, SMALL.backbone, where="here")


class _Harm:
    def __reduce__(self):
        return (print, ("code from the file ran",))


def test_no_code_of_the_file_runs(tmp_path, capsys) -> None:
    content = {"epoch": 1, "arch": [], "state_dict": {}, "best_metric": _Harm()}
    torch.save(content, tmp_path / "ckpt.pth.tar")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(_Harm()))
    for name in ("ckpt.pth.tar", "plain.pkl"):
        with pytest.raises(WrongCheckpoint):
            load_checkpoint(tmp_path / name)
    assert "ran" not in capsys.readouterr().out


def test_other_files_are_told_apart(tmp_path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(WrongCheckpoint, match="lacks epoch, arch, best_metric"):
        load_checkpoint(tmp_path / "other.pth")


def test_what_the_authors_code_cannot_build_is_not_written_in_their_layout() -> None:
    with pytest.raises(BadValue, match="no place for tf_efficientnet_lite0"):
        arch_of(replace(SMALL, backbone="tf_efficientnet_lite0.in1k"))
    with pytest.raises(BadValue, match="kind simple"):
        arch_of(replace(SMALL, reconstruction="simple"))
    assert parse_structure(SMALL.structure)[0].channels == 128
