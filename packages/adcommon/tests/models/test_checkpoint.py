"""A model folder holds everything, nothing wrong is loaded, and no file's code runs."""

import argparse
import json
import random
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from adcommon.data.preprocess import Preprocess
from adcommon.errors import WrongCheckpoint
from adcommon.evaluation.threshold import Threshold
from adcommon.io.model_folder import FORMAT_VERSION
from adcommon.models.checkpoint import load_foreign, load_model, load_strict, save_model
from adcommon.training.resume import load_resume, save_resume

ROW = {
    "method": "recontrast",
    "dataset": "mvtec",
    "category": "wood",
    "setting": "one-class",
    "image_auroc": 0.99,
    "pixel_auroc": None,
    "protocol": "standard",
    "backbone": "resnet18.tv_in1k",
    "weights": "pretrained",
    "seed": 1,
    "seconds": 3.5,
}


def config() -> dict[str, Any]:
    return {
        "method": "recontrast",
        "category": "wood",
        "recipe": {"iterations": 2000, "decoder_lr": 2e-3, "crop_size": None},
        "backbone": "resnet18.tv_in1k",
        "preprocess": Preprocess(image_size=64),
        "threshold": Threshold(value=1.25, false_alarm_rate=0.01, images=120, supported=True),
        "metrics": [ROW],
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "wood" / "model"
    save_model(folder, tensors={"weight": torch.arange(6.0).reshape(2, 3)}, config=config(), card="# card")
    return folder


def test_a_model_folder_gives_back_what_was_saved(model: Path) -> None:
    assert sorted(path.name for path in model.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded, tensors = load_model(model, method="recontrast")
    assert torch.equal(tensors["weight"], torch.arange(6.0).reshape(2, 3))
    assert Preprocess(**loaded["preprocess"]) == Preprocess(image_size=64)
    assert Threshold(**loaded["threshold"]).value == 1.25
    assert loaded["recipe"] == config()["recipe"]
    assert loaded["format_version"] == FORMAT_VERSION
    assert loaded["versions"]["torch"] == torch.__version__.split("+")[0]
    assert loaded["versions"].keys() >= {"python", "adcommon", "recontrast"}


def awkward_tensors() -> dict[str, Tensor]:
    tied = torch.arange(12.0).reshape(3, 4)
    return {
        "tied": tied,
        "tied_again": tied,
        "row_of_it": tied[1],
        "transposed": tied.t(),
        "every_second": torch.arange(10)[::2],
        "expanded": torch.ones(1, 3).expand(2, 3),
        "channels_last": torch.arange(48.0).reshape(1, 3, 4, 4).to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(torch.ones(2)),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
    }


@pytest.mark.parametrize("name", awkward_tensors())
def test_tensors_that_share_memory_or_are_strided_keep_their_values(tmp_path: Path, name: str) -> None:
    expected = awkward_tensors()
    save_model(tmp_path / "model", tensors=expected, config=config(), card="")
    loaded = load_model(tmp_path / "model")[1]
    assert loaded.keys() == expected.keys()
    assert torch.equal(loaded[name], expected[name].detach())
    assert loaded[name].dtype == expected[name].dtype
    assert loaded[name].is_contiguous()


def test_saving_again_replaces_the_model_as_a_whole(model: Path) -> None:
    save_model(model, tensors={"other": torch.ones(1)}, config=config() | {"category": "tile"}, card="")
    loaded, tensors = load_model(model)
    assert (loaded["category"], list(tensors)) == ("tile", ["other"])


def test_a_config_without_what_a_reader_needs_is_not_saved(tmp_path: Path) -> None:
    incomplete = {name: value for name, value in config().items() if name != "preprocess"}
    with pytest.raises(ValueError, match="lacks preprocess"):
        save_model(tmp_path / "model", tensors={}, config=incomplete, card="")
    assert not (tmp_path / "model").exists()


def edit_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json; expected a folder with"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors; copy the whole"),
        (lambda folder: cut(folder / "model.safetensors"), "cannot read .*model.safetensors"),
        (lambda folder: cut(folder / "config.json"), "cannot read .*config.json"),
        (lambda folder: (folder / "config.json").write_text("[]"), "is not an object"),
        (lambda folder: (folder / "config.json").write_text("{}"), "lacks method, category, recipe"),
        (lambda folder: edit_config(folder, method="uniad"), "model of uniad, not of recontrast; use uniad-"),
        (lambda folder: edit_config(folder, format_version=99), "format version 99, adcommon reads up to 1"),
        (
            lambda folder: (folder / "model.safetensors").write_text(
                "version https://git-lfs.github.com/spec"
            ),
            "git lfs pull",
        ),
        (lambda folder: (folder / "model.safetensors").write_text("<html>Log in</html>"), "an HTML page"),
        (lambda folder: (folder / "model.safetensors").write_text(""), "the file is empty"),
    ],
)
def test_a_wrong_model_folder_says_what_is_wrong(
    model: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(model)
    with pytest.raises(WrongCheckpoint, match=message):
        load_model(model, method="recontrast")


def test_a_wrong_path_points_to_the_model_that_may_be_meant(model: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongCheckpoint, match=f"Did you mean {model}"):
        load_model(model.parent)
    with pytest.raises(WrongCheckpoint, match=f"Did you mean {model}"):
        load_model(model.parent.parent)
    with pytest.raises(WrongCheckpoint, match=r"no model at .*nowhere; expected a folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(WrongCheckpoint, match="is a file; expected a folder"):
        load_model(model / "model.safetensors")


def test_load_strict_names_every_key_that_differs_and_copies_nothing() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    tensors = {name: torch.full_like(tensor, 5) for name, tensor in before.items()}
    del tensors["0.bias"], tensors["1.running_var"]
    tensors |= {"0.weight": torch.zeros(3, 4), "head.weight": torch.zeros(1)}
    with pytest.raises(WrongCheckpoint) as caught:
        load_strict(module, tensors, where="old.pth")
    assert str(caught.value).splitlines() == [
        "old.pth does not fit Sequential: 4 entries differ; was it trained with another backbone or recipe?",
        "  missing: 0.bias (3,)",
        "  missing: 1.running_var (3,)",
        "  unexpected: head.weight (1,)",
        "  shape: 0.weight is (3, 4), expected (3, 2)",
    ]
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())

    load_strict(module, {name: torch.full_like(tensor, 5) for name, tensor in before.items()}, where="it")
    assert all((tensor == 5).all() for tensor in module.state_dict().values())


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
    assert loaded["python"] == random.getstate()


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
        with pytest.raises(WrongCheckpoint, match=r"cannot read the resume state .*\n.*--force"):
            load_resume(path)


class Harmful:
    """Unpickled by the unrestricted loader it would leave a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (self.path, "w")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip format", "older format"])
@pytest.mark.parametrize("name", ["model.pth", "model.pt", "model.pth.tar"])
def test_authors_files_load_in_both_formats_whatever_their_suffix(
    tmp_path: Path, name: str, zipped: bool
) -> None:
    content = {"state_dict": OrderedDict(w=torch.arange(4.0)), "epoch": 3, "best": [0.5, None, "x"]}
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
    loaded = load_foreign(tmp_path / name)
    assert torch.equal(loaded["state_dict"]["w"], torch.arange(4.0))
    assert (loaded["epoch"], loaded["best"]) == (3, [0.5, None, "x"])


@pytest.mark.parametrize("zipped", [True, False], ids=["zip format", "older format"])
def test_code_in_a_file_does_not_run(tmp_path: Path, zipped: bool) -> None:
    trap = tmp_path / "harm"
    torch.save({"w": Harmful(str(trap))}, tmp_path / "bad.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WrongCheckpoint, match=r"bad\.pth: it holds an object of class \S*open"):
        load_foreign(tmp_path / "bad.pth")
    assert not trap.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip format", "older format"])
def test_a_class_must_be_named_to_be_built(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "args.pth"
    content = {"args": argparse.Namespace(lr=0.1), "w": torch.ones(1)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WrongCheckpoint, match=r"class argparse\.Namespace"):
        load_foreign(path)
    assert load_foreign(path, safe_classes=[argparse.Namespace])["args"].lr == 0.1
    with pytest.raises(WrongCheckpoint, match=r"class argparse\.Namespace"):
        load_foreign(path)  # what was allowed once is not allowed for ever


def test_a_stand_in_replaces_a_class_that_is_not_installed(tmp_path: Path) -> None:
    path = tmp_path / "cfg.pth"
    torch.save({"args": argparse.Namespace(lr=0.1)}, path)
    path.write_bytes(path.read_bytes().replace(b"argparse", b"argpars_"))  # the zip keeps its length
    with pytest.raises(WrongCheckpoint, match=r"class argpars_\.Namespace"):
        load_foreign(path)

    class StandIn(argparse.Namespace):
        pass

    assert load_foreign(path, safe_classes=[(StandIn, "argpars_.Namespace")])["args"].lr == 0.1


def test_what_is_no_checkpoint_is_said(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(WrongCheckpoint, match=r"no checkpoint at .*weights\.pth"):
        load_foreign(path)
    for text, reason in (
        ("version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("<!DOCTYPE html>", "HTML"),
        ("", "empty"),
    ):
        path.write_text(text)
        with pytest.raises(WrongCheckpoint, match=reason):
            load_foreign(path)
    torch.save([torch.ones(1)], path)
    with pytest.raises(WrongCheckpoint, match="holds a list, expected a dict"):
        load_foreign(path)
    save_file({"w": torch.ones(1)}, path)
    with pytest.raises(WrongCheckpoint, match="cannot read the checkpoint"):
        load_foreign(path)
