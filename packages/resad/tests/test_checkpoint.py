import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adcommon.data import load_splits
from adcommon.deploy.load import load
from adcommon.errors import BadValue, DatasetNotFound
from adcommon.io.images import list_images
from adcommon.models.checkpoint import load_model
from adcommon.testing.alterations import loads_or_is_refused
from resad.checkpoint import Config, load_detector, load_trained, recorded_references
from resad.compat.official import write_official
from resad.experiment import fit
from resad.recipes import Recipe


@pytest.fixture
def folder(trees: Path, recipe: Recipe) -> Path:
    """The model of a short training, tested on one category."""
    fitted = fit(
        replace(recipe, epochs=1, first_stage_epochs=1),
        load_splits("mvtec", trees, ("bottle",)),
        targets=load_splits("visa", trees, ("candle",)),
        out=trees / "run",
        device="cpu",
        weights="random",
        cache=False,
    )
    return fitted.models["all"]


def test_a_model_folder_gives_back_what_was_trained(folder: Path) -> None:
    trained, (config, tensors) = load_trained(folder), load_model(folder, Config, "resad")
    state = trained.scorer.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in tensors.items())
    assert trained.scorer.scale == config.scale
    assert (trained.facts.dataset, trained.facts.trained_on) == ("visa", "mvtec")
    assert (trained.categories, trained.threshold) == (("candle",), None)
    assert not trained.scorer.model.training


def test_a_folder_from_before_precision_and_trained_on_loads(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["trained_on"], config["recipe"]["precision"]
    (folder / "config.json").write_text(json.dumps(config))
    trained = load_trained(folder)
    assert (trained.facts.trained_on, trained.recipe.precision) == ("mvtec", "fp32")
    for tf32, precision in ((False, "fp32"), (True, "tf32")):  # once a field of its own
        config["recipe"]["tf32"] = tf32
        (folder / "config.json").write_text(json.dumps(config))
        assert load_trained(folder).recipe.precision == precision


def test_a_detector_compares_with_given_or_recorded_references(folder: Path, trees: Path) -> None:
    images = torch.randn(2, 3, 32, 32)
    recorded = load_detector(folder)
    names = load_model(folder, Config, "resad")[0].references["candle"]
    again = load_detector(folder, references=[Path(name) for name in names])
    torch.testing.assert_close(recorded.score(images).image_scores, again.score(images).image_scores)
    other = load_detector(folder, references=list_images(trees / "visa/pcb1/train/good")[:3])
    assert not torch.equal(recorded.score(images).image_scores, other.score(images).image_scores)
    cut = load(folder, references=[Path(name) for name in names], tile=24, overlap=8)
    assert len(cut.preprocess.boxes(32, 32)) == 4
    assert cut.predict(trees / "visa/candle/test/good")[0].score is not None


def test_the_authors_file_has_no_constants_and_no_categories(
    folder: Path, recipe: Recipe, tmp_path: Path
) -> None:
    model = load_trained(folder).scorer.model
    write_official(tmp_path / "x_latest.pth", model)
    trained = load_trained(tmp_path / "x_latest.pth", given=recipe, weights="random")
    assert all(
        torch.equal(value, trained.scorer.model.state_dict()[name])
        for name, value in model.state_dict().items()
    )
    assert (trained.scorer.scale, trained.categories, trained.threshold) == (None, (), None)


def test_recorded_references_are_found_or_asked_for(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.touch()
    recorded = {"candle": [str(image)], "pcb1": [str(tmp_path / "gone.png")]}
    assert recorded_references(recorded, "candle", tmp_path) == [image]
    assert recorded_references({"candle": [str(image)]}, None, tmp_path) == [image]
    with pytest.raises(BadValue, match=r"--references DIR.*candle, pcb1"):
        recorded_references(recorded, None, tmp_path)
    with pytest.raises(DatasetNotFound, match=r"gone\.png.*--references"):
        recorded_references(recorded, "pcb1", tmp_path)
    with pytest.raises(BadValue, match="--references"):
        recorded_references({}, None, tmp_path)


@pytest.mark.parametrize(
    "count", [8, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_no_value_of_a_config_is_believed(folder: Path, count: int) -> None:
    loads_or_is_refused(folder, load_trained, count)
