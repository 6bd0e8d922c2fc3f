import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from adcommon.errors import BadValue, Leak, UnreadableImage
from adcommon.io.model_folder import TENSORS
from adcommon.models.pickles import read_safetensors
from adcommon.testing.commands import read_table
from adcommon.testing.runs import stopped_and_resumed
from adcommon.training.run import Run, RunGroup
from adcommon.training.stop import StopSignal
from inctrl.checkpoint import load_trained
from inctrl.data import find_targets, training_records
from inctrl.recipes import Recipe
from inctrl.settings import TrainSettings
from inctrl.train import check_inputs, train

TRAINED_ON = ("bottle", "cable")
SETTINGS = TrainSettings(weights="random", cache=False)


def run_once(
    root: Path, name: str, recipe: Recipe, settings: TrainSettings = SETTINGS
) -> tuple[list[dict], dict[str, torch.Tensor]]:
    run = RunGroup(root / name).run("2-shot")
    rows = train(recipe, 2, *data(root, recipe), run, Accelerator(cpu=True), settings, StopSignal())
    return rows, read_safetensors(run.model / TENSORS)


def data(root: Path, recipe: Recipe):
    """What is trained on, and what is tested."""
    targets = find_targets(recipe.test_datasets, root, ("candle",))
    return training_records(recipe, root, TRAINED_ON), targets


def test_a_stopped_and_resumed_run_ends_in_the_bits_of_an_unbroken_one(data_root, tiny) -> None:
    recipe = replace(tiny, evaluate_every=1)

    def trains(run: Run, resume: bool, stop: StopSignal) -> None:
        settings = replace(SETTINGS, resume=resume)
        train(recipe, 2, *data(data_root, recipe), run, Accelerator(cpu=True), settings, stop)

    whole, _ = stopped_and_resumed(trains, data_root, questions=4, step=4)
    measured = [bool(row["visa/candle/image_auroc"]) for row in read_table(whole.metrics)]
    assert measured == [False, False, True, False, False, False]


def test_kept_features_change_no_number_beyond_rounding(data_root, tiny) -> None:
    run_once(data_root, "kept", tiny)
    run_once(data_root, "computed", replace(tiny, cache_features=False))
    kept, computed = (
        [float(row["loss"]) for row in read_table(data_root / name / "2-shot" / "metrics.csv")]
        for name in ("kept", "computed")
    )
    assert kept[0] == pytest.approx(computed[0], rel=1e-4)
    assert kept == pytest.approx(computed, rel=2e-2)


def test_the_selected_epoch_is_exported(data_root, tiny, caplog: pytest.LogCaptureFixture) -> None:
    rows, exported = run_once(data_root, "first", replace(tiny, select_epoch=1))
    folder = data_root / "first" / "2-shot"
    assert sorted(path.name for path in (folder / "epochs").iterdir()) == ["001", "002"]
    first, second = (read_safetensors(folder / "epochs" / name / TENSORS) for name in ("001", "002"))
    assert all(torch.equal(exported[name], first[name]) for name in first)
    assert not torch.equal(first["adapter.fc.0.weight"], second["adapter.fc.0.weight"])
    config = json.loads((folder / "model" / "config.json").read_text())
    assert (config["epoch"], config["shots"], len(config["metrics"])) == (1, 2, len(rows))
    run_once(data_root, "later", replace(tiny, select_epoch=6))
    assert "epoch 6 was to be exported and 2 were run" in caplog.text


@pytest.mark.parametrize("order", ["corrected", "reference"])
def test_a_clip_trains_in_both_orders_and_tells_text_apart(data_root, clip_recipe, order: str) -> None:
    rows, _ = run_once(data_root, order, replace(clip_recipe, batch_order=order))
    assert all(row["text"] for row in rows)


def test_a_relative_model_is_saved_and_loaded_as_one(data_root, tiny) -> None:
    recipe = replace(tiny, relative=True, batch_order="corrected")
    run_once(data_root, "relative", recipe)
    trained = load_trained(data_root / "relative" / "2-shot" / "model", weights="random")
    assert trained.scorer.model.relative


def test_what_cannot_be_trained_is_said_first(data_root, tiny) -> None:
    records, targets = data(data_root, tiny)
    with pytest.raises(BadValue, match=r"batch_order reference mixes levels of equal width"):
        check_inputs(replace(tiny, batch_order="reference"), records, targets, SETTINGS)
    with pytest.raises(BadValue, match="shots is 20"):
        check_inputs(replace(tiny, shots=(20,)), records, targets, SETTINGS)
    targets[0].test[0].image.write_bytes(b"no image")
    with pytest.raises(UnreadableImage):
        check_inputs(tiny, records, targets, SETTINGS)


def test_own_images_that_are_trained_on_are_not_tested(data_root, tiny) -> None:
    records, targets = data(data_root, tiny)
    own = [replace(target, dataset="folder") for target in targets]
    check_inputs(tiny, records, own, SETTINGS)
    with pytest.raises(Leak, match="6 test images are training images too"):
        check_inputs(tiny, [*records, *own[0].test], own, SETTINGS)
    check_inputs(tiny, [*records, *own[0].test], targets, SETTINGS)  # published so: a warning
