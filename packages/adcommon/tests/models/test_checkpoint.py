"""A model folder holds everything, nothing wrong is loaded, and no file's code runs."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adcommon.data.preprocess import Preprocess
from adcommon.errors import WrongCheckpoint
from adcommon.io.model_folder import FORMAT_VERSION
from adcommon.models.checkpoint import load_model, load_strict, save_model
from adcommon.models.config import ModelConfig
from adcommon.types.threshold import Threshold
from adcommon.types.values import Positive, Side

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


@dataclass(frozen=True, kw_only=True)
class Recipe:
    iterations: Positive = 1
    decoder_lr: float = 0.1
    crop_size: Side | None = None


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig[Recipe]):
    recipe: Recipe


def load(folder: Path) -> tuple[Config, dict[str, Tensor]]:
    return load_model(folder, Config, "recontrast")


def config() -> dict[str, Any]:
    return {
        "method": "recontrast",
        "category": "wood",
        "categories": ["wood"],
        "dataset": "mvtec",
        "setting": "one-class",
        "weights": "pretrained",
        "seed": 1,
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
    assert sorted(path.name for path in model.iterdir()) == [
        ".adcommon",
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    loaded, tensors = load(model)
    assert torch.equal(tensors["weight"], torch.arange(6.0).reshape(2, 3))
    assert loaded.preprocess == config()["preprocess"]
    assert loaded.threshold == config()["threshold"]
    assert loaded.recipe == Recipe(iterations=2000, decoder_lr=2e-3)
    assert loaded.facts.known() == {name: ROW[name] for name in loaded.facts.known()}
    assert loaded.format_version == FORMAT_VERSION
    assert loaded.versions["torch"] == torch.__version__.split("+")[0]
    assert loaded.versions.keys() >= {"python", "adcommon", "recontrast"}


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
    loaded = load(tmp_path / "model")[1]
    assert loaded.keys() == expected.keys()
    assert torch.equal(loaded[name], expected[name].detach())
    assert loaded[name].dtype == expected[name].dtype
    assert loaded[name].is_contiguous()


def test_saving_again_replaces_the_model_as_a_whole(model: Path) -> None:
    save_model(model, tensors={"other": torch.ones(1)}, config=config() | {"category": "tile"}, card="")
    loaded, tensors = load(model)
    assert (loaded.category, list(tensors)) == ("tile", ["other"])


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
        (lambda folder: (folder / "config.json").write_text("[]"), r"is \[\]; expected the object"),
        (lambda folder: (folder / "config.json").write_text("{}"), "the field format_version is missing"),
        (lambda folder: edit_config(folder, format_version="1"), "format_version is '1'; expected a whole"),
        (lambda folder: edit_config(folder, method=["a"]), r"method is \['a'\]; expected text"),
        (lambda folder: edit_config(folder, method="../x"), "the method '../x' cannot be the name"),
        (lambda folder: edit_config(folder, seed=-1), "config.json: seed is -1; expected a whole number"),
        (lambda folder: edit_config(folder, new=1), "unknown field 'new'; was it written by a newer version"),
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
        load(model)


def test_a_wrong_path_points_to_the_model_that_may_be_meant(model: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongCheckpoint, match=f"Did you mean {model}"):
        load(model.parent)
    with pytest.raises(WrongCheckpoint, match=f"Did you mean {model}"):
        load(model.parent.parent)
    with pytest.raises(WrongCheckpoint, match=r"no model at .*nowhere; expected a folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(WrongCheckpoint, match="is a file; expected a folder"):
        load(model / "model.safetensors")


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
