import pickle
from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from adcommon.errors import BadValue, UserError, WrongCheckpoint
from adcommon.testing.alterations import sample
from uniad.compat.official import fill, load_checkpoint, save_checkpoint, to_official
from uniad.recipes import MVTEC, Recipe

RESNET = replace(MVTEC, backbone="resnet18.tv_in1k", strides=(4, 8, 16), image_size=64, neighbourhood=(3, 3))
SMALL = replace(RESNET, hidden_dim=32, heads=4, encoder_layers=1, decoder_layers=2, feedforward=32)
B0 = replace(SMALL, backbone="tf_efficientnet_b0.aa_in1k", strides=(2, 4, 8, 16))


def model_of(make_model, recipe: Recipe):
    return make_model(**{name: getattr(recipe, name) for name in ("backbone", "strides")})


@pytest.mark.parametrize("recipe", [SMALL, B0], ids=["resnet", "efficientnet"])
def test_a_model_survives_the_authors_file(make_model, tmp_path, recipe) -> None:
    model, path = model_of(make_model, recipe), tmp_path / "ckpt.pth.tar"
    save_checkpoint(path, model, recipe, epoch=3, best_metric=0.75)
    checkpoint = load_checkpoint(path)
    assert (checkpoint.epoch, checkpoint.best_metric) == (3, 0.75)
    assert checkpoint.recipe == recipe
    again = checkpoint.model().state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "count", [6, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_no_value_of_a_file_is_believed(make_model, tmp_path, count: int) -> None:
    path = tmp_path / "ckpt.pth.tar"
    save_checkpoint(path, model_of(make_model, SMALL), SMALL)
    content = torch.load(path)
    tensors = content.pop("state_dict")
    for _, changed in sample(content, count):
        torch.save({"state_dict": tensors, **changed}, path)
        with suppress(UserError):
            load_checkpoint(path).model()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_dim", 10**9),
        ("dim_feedforward", 10**9),
        ("num_encoder_layers", 10**9),
        ("feature_size", [4096, 4096]),
        ("feature_size", [512, 512]),
        ("outlayers", [10**12]),
    ],
)
def test_sizes_of_a_file_are_compared_with_its_tensors_first(make_model, tmp_path, name, value) -> None:
    path = tmp_path / "ckpt.pth.tar"
    save_checkpoint(path, model_of(make_model, SMALL), SMALL)
    content = torch.load(path)
    if name == "outlayers":
        content["arch"][0]["kwargs"] = {name: value}
    else:
        content["arch"][2]["kwargs"][name] = value
    torch.save(content, path)
    with pytest.raises(WrongCheckpoint, match=r"ckpt\.pth\.tar"):
        load_checkpoint(path).model()


def test_the_authors_file_has_no_place_for_whitened_features(make_model) -> None:
    with pytest.raises(BadValue, match="--no-whiten"):
        to_official(make_model(whiten=True))


def test_names_are_the_authors(make_model) -> None:
    names = to_official(model_of(make_model, B0)).keys()
    assert all(name.startswith(("module.backbone._", "module.reconstruction.")) for name in names)
    assert "module.backbone._blocks.10._depthwise_conv.weight" in names
    assert "module.reconstruction.transformer.decoder.layers.1.learned_embed.weight" in names


def test_a_plain_load_without_code_reads_what_was_written(make_model, tmp_path) -> None:
    save_checkpoint(tmp_path / "ckpt.pth.tar", model_of(make_model, SMALL), SMALL)
    content = torch.load(tmp_path / "ckpt.pth.tar", weights_only=True)
    assert set(content) == {"epoch", "arch", "state_dict", "best_metric", "optimizer"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("reconstruction.input_proj.bias"), r"missing: input_proj\.bias"),
        (lambda state: state.update({"reconstruction.x": torch.zeros(1)}), "unexpected: x"),
        (lambda state: state.update({"neck.x": torch.zeros(1)}), "belong to no part: neck.x"),
        (lambda state: state.pop("backbone.layer1.0.conv1.weight"), r"missing: layer1\.0\.conv1\.weight"),
        (
            lambda state: state.update({"reconstruction.output_proj.bias": torch.zeros(3)}),
            r"shape: output_proj\.bias is \(3,\), expected \(448,\)",
        ),
    ],
)
def test_whatever_does_not_fit_is_named(make_model, change, message) -> None:
    model = model_of(make_model, SMALL)
    state = {name.removeprefix("module."): value for name, value in to_official(model).items()}
    change(state)
    with pytest.raises(WrongCheckpoint, match=message):
        fill(model, state, SMALL.backbone, where="here")


class _Harm:
    def __reduce__(self):
        return (print, ("code from the file ran",))


def test_no_code_of_the_file_runs(tmp_path, capsys) -> None:
    content = {"epoch": 1, "arch": [], "state_dict": {}, "best_metric": _Harm(), "optimizer": {}}
    torch.save(content, tmp_path / "ckpt.pth.tar")
    with pytest.raises(WrongCheckpoint):
        load_checkpoint(tmp_path / "ckpt.pth.tar")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(_Harm()))
    with pytest.raises(WrongCheckpoint):
        load_checkpoint(tmp_path / "plain.pkl")
    assert "ran" not in capsys.readouterr().out


def test_other_files_are_told_apart(tmp_path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(WrongCheckpoint, match="lacks epoch, arch, best_metric, optimizer"):
        load_checkpoint(tmp_path / "other.pth")
