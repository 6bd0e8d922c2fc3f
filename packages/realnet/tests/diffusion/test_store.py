from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adcommon.errors import BadValue, WeightsNotFound, WrongCheckpoint
from adcommon.testing.alterations import loads_or_is_refused
from realnet.diffusion import store
from realnet.diffusion.compat.official import save_checkpoint
from realnet.diffusion.recipes import CLASSIFIER_RECIPES, DIFFUSION_RECIPES

UNET, CLASSIFIER = DIFFUSION_RECIPES["tiny"], CLASSIFIER_RECIPES["tiny"]


def saved(folder: Path, recipe=UNET, categories=("bolt", "nut")):
    network = store.build(recipe, len(categories))
    store.save(folder, network, recipe, categories, "random", {"step": 3, "rebuild_mse": 0.25})
    return network


@pytest.mark.parametrize("place", ["", "model", "diffusion/model"])
def test_a_model_is_found_in_a_run_and_knows_its_recipe_and_categories(tmp_path: Path, place: str) -> None:
    network = saved(tmp_path / "run" / place)
    trained = store.load(tmp_path / "run", UNET)
    assert (trained.recipe, trained.categories) == (UNET, ("bolt", "nut"))
    assert not trained.network.training
    state = trained.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    card = (tmp_path / "run" / place / "README.md").read_text()
    assert "Classes: 0 bolt, 1 nut." in card
    assert "rebuild_mse: 0.25" in card


def test_a_checkpoint_takes_the_categories_it_is_given(tmp_path: Path) -> None:
    file = tmp_path / "ckpt.pth.tar"
    save_checkpoint(file, store.build(CLASSIFIER, 3), CLASSIFIER, {"epoch": 2, "epoch_accuracy": 0.9})
    trained = store.load(file, CLASSIFIER, ("01", "02", "03"))
    assert trained.categories == ("01", "02", "03")
    assert trained.recipe == CLASSIFIER
    with pytest.raises(BadValue, match=r"3 classes, there are 2 categories \(a, b\)"):
        store.load(file, CLASSIFIER, ("a", "b"))
    with pytest.raises(WrongCheckpoint, match="does not fit Classifier"):
        store.load(file, CLASSIFIER_RECIPES["small64"], ("01", "02", "03"))


def test_a_missing_model_and_one_of_the_other_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(WrongCheckpoint, match="Train it with: realnet-train-diffusion"):
        store.load(tmp_path / "nowhere", UNET)
    saved(tmp_path / "model", CLASSIFIER)
    with pytest.raises(WrongCheckpoint, match="realnet-classifier"):
        store.load(tmp_path / "model", UNET)


def test_a_training_starts_from_scratch_from_a_file_or_from_a_model(tmp_path: Path, caplog) -> None:
    with caplog.at_level("INFO"):
        store.start(UNET, 2, store.origin(UNET, "pretrained"))
    assert "training from scratch" in caplog.text
    with pytest.raises(WeightsNotFound, match=r"no weights file .*nowhere\.pt"):
        store.origin(UNET, str(tmp_path / "nowhere.pt"))
    other = saved(tmp_path / "model", categories=("a", "b", "c"))
    torch.save(other.state_dict(), tmp_path / "file.pt")
    for origin in (
        store.origin(replace(UNET, init_from=tmp_path / "model"), "random"),
        store.origin(replace(UNET, init_from=tmp_path / "file.pt"), "random"),
        store.origin(UNET, str(tmp_path / "file.pt")),
    ):
        begun = store.start(UNET, 2, origin)
        assert torch.equal(begun.time_embed[0].weight, other.time_embed[0].weight)
        assert begun.label_emb.weight.shape[0] == 2


@pytest.mark.parametrize(
    "count", [8, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
@pytest.mark.parametrize("recipe", [UNET, CLASSIFIER], ids=["unet", "classifier"])
def test_no_value_of_a_config_is_believed(tmp_path: Path, recipe, count: int) -> None:
    saved(tmp_path / "model", recipe)
    loads_or_is_refused(tmp_path / "model", lambda folder: store.load(folder, recipe), count)
