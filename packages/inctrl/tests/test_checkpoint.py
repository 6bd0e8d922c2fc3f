import json
from pathlib import Path

import pytest
import torch

from adcommon.errors import BadValue, WeightsNotFound, WrongCheckpoint
from adcommon.testing.alterations import loads_or_is_refused
from inctrl.checkpoint import load_detector, load_trained, save


@pytest.fixture
def folder(trained, tmp_path: Path) -> Path:
    save(tmp_path / "model", trained, epoch=3, learned_from=[])
    return tmp_path / "model"


def test_a_model_folder_has_the_trained_part_only_and_comes_back(folder: Path, trained) -> None:
    assert (folder / "model.safetensors").stat().st_size < 2e6
    again = load_trained(folder)
    assert (again.recipe, again.facts, again.categories) == (trained.recipe, trained.facts, ("bottle",))
    for name, value in trained.scorer.model.state_dict().items():
        assert torch.equal(again.scorer.model.state_dict()[name], value)
    config = json.loads((folder / "config.json").read_text())
    assert (config["epoch"], config["frozen"]) == (3, trained.scorer.backbone.digest)


def test_other_frozen_weights_are_refused(folder: Path, tmp_path: Path, trained) -> None:
    state = {name: value + 0.01 for name, value in trained.scorer.backbone.tower.network.state_dict().items()}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WrongCheckpoint, match="trained on other weights of 'test_efficientnet'"):
        load_trained(folder, weights=str(tmp_path / "other.pth"))


def test_a_detector_asks_for_references(folder: Path) -> None:
    with pytest.raises(BadValue, match="--references DIR"):
        load_detector(folder)


def test_a_config_opens_no_file_of_its_user(
    folder: Path, tmp_path: Path, trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "mine" / "resnet.pth"
    weights.parent.mkdir()
    torch.save(trained.scorer.backbone.tower.network.state_dict(), weights)
    config = json.loads((folder / "config.json").read_text()) | {"weights": str(weights)}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        WeightsNotFound,
        match=r"weights is .*, a file, which only you can name: .*--weights FILE .*AD_WEIGHTS",
    ):
        load_trained(folder)
    assert load_trained(folder, weights=str(weights)).facts.weights == str(weights)
    monkeypatch.setenv("AD_WEIGHTS", str(weights.parent))
    assert load_trained(folder).facts.weights == str(weights)


@pytest.mark.parametrize(
    "count", [8, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_no_value_of_a_config_is_believed(folder: Path, count: int) -> None:
    loads_or_is_refused(folder, load_trained, count)
